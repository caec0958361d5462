"""`giant bench NAME`. Only typer is imported here; each bench imports what it needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import typer

from agent.cli.options import ModelOpt, opt


def _agent(given: SimpleNamespace) -> None:
    from eval.bench.agent_steps import main

    main(given.as_json)


def _ask(given: SimpleNamespace) -> None:
    from eval.bench.ask import main

    main(_needed(given.slide, "a slide to make a large one from"), given.side, given.model, given.work)


def _focus(given: SimpleNamespace) -> None:
    from eval.bench.focus import main

    data = _needed(given.data, "pictures to judge", "Add --data DIR")
    main(data, int(given.tiles or 200), given.seed, given.as_json)


def _fuzz(given: SimpleNamespace) -> None:
    from eval.bench.fuzz import main

    data = _needed(given.data, "slides to damage", "Add --data DIR")
    main(data, given.count, given.seed, given.work, given.as_json)


def _gigapath(given: SimpleNamespace) -> None:
    from eval.bench.gigapath import main

    main(given.small, given.use_compile, given.batch)


def _index(given: SimpleNamespace) -> None:
    from eval.bench.embed import main

    slide, tiles = _needed(given.slide, "a slide to make large ones from"), int(given.tiles or 1000)
    main(slide, given.side, given.work, tiles, given.rounds, given.model, given.as_json)


def _read(given: SimpleNamespace) -> None:
    from eval.bench.read import main

    slide = _needed(given.slide, "a slide to read from")
    main(slide, int(given.tiles or 1500), given.rounds, given.as_json)


def _reading(given: SimpleNamespace) -> None:
    from eval.scores.readings import main

    main(_needed(given.replies, "recorded replies", "Add --replies FILE"), given.before)


def _retrieve(given: SimpleNamespace) -> None:
    from eval.bench.retrieve import TILES, main

    main(int(given.tiles or TILES), given.rounds, given.work, given.as_json)


def _slide_encoder(given: SimpleNamespace) -> None:
    from eval.bench.slide_encoder import main, sizes_of

    main(sizes_of(given.tiles), given.small, given.bf16, given.device, given.as_json)


def _startup(given: SimpleNamespace) -> None:
    from eval.bench.startup import main

    main()


def _tissue(given: SimpleNamespace) -> None:
    from eval.bench.tissue import main

    main(given.slide, given.cohort, given.rounds, given.as_json)


BENCHES: dict[str, Callable[[SimpleNamespace], None]] = {
    "agent": _agent,
    "ask": _ask,
    "focus": _focus,
    "fuzz": _fuzz,
    "gigapath": _gigapath,
    "index": _index,
    "read": _read,
    "reading": _reading,
    "retrieve": _retrieve,
    "slide-encoder": _slide_encoder,
    "startup": _startup,
    "tissue": _tissue,
}


def bench(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"One of: {', '.join(BENCHES)}.")],
    slide: Annotated[Path | None, opt("SLIDE", "ask, index: the slide to repeat into a large one.")] = None,
    side: Annotated[int, opt("PX", "ask, index: side of the large slide.")] = 40960,
    model: ModelOpt = "mini",
    work: Annotated[
        Path, opt("DIR", "ask, index: where large slides are kept; fuzz: where files that did harm are.")
    ] = Path("giant-bench"),
    data: Annotated[
        Path | None, opt("DIR", "fuzz: the slides to damage; focus: slides, or pictures with tiles.csv.")
    ] = None,
    count: Annotated[int, opt("N", "fuzz: damaged files.")] = 5000,
    seed: Annotated[int, opt("N", "fuzz: decides how they are damaged; focus: which pictures.")] = 0,
    small: Annotated[bool, typer.Option("--small", help="An encoder at a small size, to try it.")] = False,
    use_compile: Annotated[bool, typer.Option("--compile", help="gigapath: through torch.compile.")] = False,
    batch: Annotated[list[int] | None, opt("N", "gigapath: tiles at once; repeat it.")] = None,
    tiles: Annotated[
        str | None,
        opt(
            "N,N",
            "slide-encoder: tiles per slide, with commas; index, read, retrieve: tiles; focus: places of each"
            " source.",
        ),
    ] = None,
    cohort: Annotated[Path | None, opt("DIR", "tissue: slides and truth, as giant phantom writes.")] = None,
    rounds: Annotated[
        int, opt("N", "index, read, retrieve, tissue: each way is timed so often, in turns.")
    ] = 3,
    bf16: Annotated[bool, typer.Option("--bf16", help="slide-encoder: in mixed precision.")] = False,
    device: Annotated[str | None, opt("NAME", "slide-encoder: cpu or cuda.")] = None,
    replies: Annotated[Path | None, opt("FILE", "reading: recorded replies, JSON lines.")] = None,
    before: Annotated[Path | None, opt("FILE", "reading: what another reader read in them.")] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="agent, focus, fuzz, index, read, slide-encoder, tissue: print JSON."),
    ] = False,
) -> None:
    """Measure time and memory on this machine."""
    given = SimpleNamespace(**locals())
    from core_model.errors import UsageError

    if name not in BENCHES:
        raise UsageError(f"there is no bench '{name}'", fix=f"Choose one of {', '.join(BENCHES)}")
    BENCHES[name](given)


def _needed(path: Path | None, what: str, fix: str = "Add --slide SLIDE") -> Path:
    from core_model.errors import UsageError

    if path is None:
        raise UsageError(f"this bench needs {what}", fix=fix)
    return path
