"""Time and peak memory of `giant ask` on a large slide, part by part.

The large slide is written by one fresh process and asked by another, so that the memory measured is that
of asking alone.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.bench.measure import MIB, Part, ResourceMeter, answer_parent, hardware, in_own_process
from eval.tables import figures_table

if TYPE_CHECKING:
    from rich.table import Table

QUESTION = "What is the diagnosis?"
OPTIONS = [
    "adenocarcinoma",
    "squamous cell carcinoma",
    "papillary carcinoma",
    "small cell carcinoma",
    "benign tissue",
]
LIMIT = 2.5e9
"""Bytes that asking may hold at most."""


def main(slide: Path, side: int, model: str, work: Path) -> None:
    """Make the slide where it is not there, measure, print a table."""
    from agent.cli.terminal import stderr, stdout

    target = work / f"{slide.stem}-{side}.tiff"
    stderr().print(f"Writing {target}" if not target.exists() else f"Using {target}")
    in_own_process("eval.bench.ask", "write", str(slide), str(target), str(side), where=target)
    stderr().print("Asking")
    records = in_own_process("eval.bench.ask", "ask", str(target), model, where=target)
    parts = [Part(**part) for part in records]
    stdout().print(f"{hardware()}; {target.name}, {target.stat().st_size / 1e6:.0f} MB")
    stdout().print(parts_table(parts))
    most = max(part.peak for part in parts)
    verdict = "within" if most <= LIMIT else "OVER"
    stdout().print(f"Peak memory {most / 1e9:.2f} GB, {verdict} the limit of {LIMIT / 1e9:.1f} GB")


def measure_ask(slide_path: str, model_name: str, work: Path) -> list[Part]:
    """Ask as `giant ask` does, with every part measured. Features are kept in `work`."""
    meter = ResourceMeter()
    with meter.part("import"):
        import agent.session.ask  # noqa: F401
    with meter.part("model"):
        from core_model import load_model

        model = load_model(model_name)
    with meter.part("open") as note:
        from core_model.slides.slide import open_slide

        slide = open_slide(slide_path)
        note.append(f"{slide.width} x {slide.height} px, {len(slide.level_dimensions)} levels")
    with slide:
        features = _prepare(meter, slide, model, work)
        with meter.part("slide encoder") as note:
            note.append(f"{len(features)} tiles")
            model.slide_tokens(features)
        with meter.part("LLM") as note:
            note.append(f"{len(OPTIONS)} options")
            model.score_options(features, QUESTION, OPTIONS)
        _ask(meter, slide, model, work)
    return meter.parts


def parts_table(parts: list[Part]) -> Table:
    """Parts with time and memory, for a terminal."""
    table = figures_table(["part"], ["s", "held MB", "peak MB"])
    table.add_column("")
    for p in parts:
        figures = (f"{p.seconds:.2f}", f"{p.held / MIB:+.0f}", f"{p.peak / MIB:.0f}")
        table.add_row(p.name, *figures, p.note)
    total = sum(part.seconds for part in parts)
    table.add_row("together", f"{total:.2f}", "", f"{max(p.peak for p in parts) / MIB:.0f}", "")
    return table


def _prepare(meter: ResourceMeter, slide: Any, model: Any, work: Path) -> Any:
    """Tissue, tile grid, features; returns the features, which the store under `work` keeps."""
    from core_model.features.extract import extract
    from core_model.features.grid import tile_grid
    from core_model.features.store import FeatureStore
    from core_model.slides.tissue import find_tissue

    with meter.part("tissue") as note:
        tissue = find_tissue(slide)
        note.append(f"{tissue.area_mm2:.0f} mm²")
    with meter.part("tile grid") as note:
        note.append(f"{len(tile_grid(slide, tissue, model.tile_encoder.tile_um))} tiles")
    with meter.part("tiles") as note:
        features = extract(slide, model.tile_encoder, FeatureStore(work / "cache"), tissue=tissue)
        note.append(f"read and encoded {len(features)}")
    last = meter.parts[-1]
    meter.parts[-1] = replace(last, note=f"{last.note}, {len(features) / last.seconds:.0f}/s")
    return features


def _ask(meter: ResourceMeter, slide: Any, model: Any, work: Path) -> None:
    """The agent's run, each step a part. The step that looks for tiles by text includes their index."""
    from agent.run.records import Answer, Step
    from agent.session.ask import Item, stream

    os.environ["GIANT_CACHE"] = str(work / "cache")
    run = stream(slide, QUESTION, options=OPTIONS, model=model, out=work / "run")
    item: Item | None = None
    while not isinstance(item, Answer):
        with meter.part("step") as note:
            item = next(run)
            note.append(item.action.tool if isinstance(item, Step) else "")
        name = f"step {item.index}" if isinstance(item, Step) else "answer and report"
        meter.parts[-1] = replace(meter.parts[-1], name=name)


def _do(job: str, *args: str) -> list[dict[str, Any]]:
    """Write the large slide, or measure what asking it takes."""
    if job == "write":
        from eval.bench.pyramid import write_large

        source, target, side = args
        write_large(Path(source), Path(target), int(side))
        return []
    work = Path(tempfile.mkdtemp(prefix="giant-bench-"))
    try:
        return [asdict(part) for part in measure_ask(args[0], args[1], work)]
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    answer_parent(_do)
