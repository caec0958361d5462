"""Checks of the installation, and of slides. Each has a status, what was found, and how to mend it.

A check is a function that returns (status, message, fix). Only what giant cannot do without fails.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from agent.cli.slide_facts import SlideDetails, details_of, rows_of
from agent.cli.streams import ascii_json
from core_model.errors import GiantError, printable
from core_model.records import Record

Status = Literal["ok", "optional", "warning", "failed"]
Result = tuple[Status, str, str | None]

REQUIRED = (
    "torch",
    "transformers",
    "langgraph",
    "langgraph-checkpoint-sqlite",
    "pydantic",
    "h5py",
    "faiss-cpu",
    "tifffile",
    "pillow",
    "numpy",
)
EXTRAS = {
    "train": ("peft", "accelerate", "deepspeed"),
    "eval": ("matplotlib", "nltk", "rouge_score", "sacrebleu"),
    "openai": ("langchain", "langchain_openai"),
    "anthropic": ("langchain", "langchain_anthropic"),
    "google": ("langchain", "langchain_google_genai"),
    "ray": ("ray",),
    "zarr": ("zarr",),
    "dicom": ("wsidicom",),
    "czi": ("pylibCZIrw",),
    "fastslide": ("fastslide",),
}
"""Modules that each extra of the package brings."""
LEAST_FREE = 2 << 30
"""Bytes of disk below which a warning is due: features of a few hundred slides."""


class Check(Record):
    """One thing that was looked at."""

    name: str
    status: Status
    message: str
    fix: str | None = None
    slide: SlideDetails | None = None
    """Everything about the slide, where one alone was looked at."""


def examine() -> list[Check]:
    """Every check, in order. None raises: what goes wrong is the result."""
    checks: dict[str, Callable[[], Result]] = {
        "python": _python,
        **{name: _package(name) for name in REQUIRED},
        "openslide": _openslide,
        "cpu": _cpu,
        "gpu": _gpu,
        "weights": _weights,
        "cache": _cache,
        **{f"extra {name}": _extra(name, modules) for name, modules in EXTRAS.items()},
    }
    return [_check(name, run) for name, run in checks.items()]


def examine_slides(paths: Sequence[str], mpp: float | None, isolate: bool = False) -> list[Check]:
    """A check for each slide under the paths, and one for each reason why something there is none.

    Where there is one slide alone it is told in full, and not by its name.
    """
    from core_model.slides.discover import slides_under

    found = slides_under(paths)
    if len(found.paths) == 1:
        checks = [_one_slide(found.paths[0], mpp, isolate)]
    else:
        checks = [_check(printable(str(path)), partial(_slide, path, mpp, isolate)) for path in found.paths]
    skipped = [Check(name="no slides", status="optional", message=line) for line in found.summary()]
    return [*checks, *skipped]


def show_checks(checks: list[Check], as_json: bool) -> None:
    """A table on stdout, or one JSON object."""
    if as_json:
        ok = all(check.status != "failed" for check in checks)
        absent = {number: {"slide"} for number, check in enumerate(checks) if check.slide is None}
        rows = TypeAdapter(list[Check]).dump_json(checks, exclude=absent).decode()
        print(ascii_json(f'{{"ok":{"true" if ok else "false"},"checks":{rows}}}'))
        return
    from rich.table import Table
    from rich.text import Text

    from agent.cli.terminal import stdout

    colours = {"ok": "green", "optional": "dim", "warning": "yellow", "failed": "bold red"}
    table = Table(box=None, pad_edge=False)
    for title in ("check", "", "found"):
        table.add_column(title)
    for check in checks:
        found = Text(check.message)
        if check.fix and check.status != "ok":
            found.append(f"\n→ {check.fix}", style="cyan")
        table.add_row(check.name, Text(check.status, style=colours[check.status]), found)
        for name, words in rows_of(check.slide) if check.slide is not None else ():
            table.add_row(f"  {name}", "", Text(words))
    stdout().print(table)


def _check(name: str, run: Callable[[], Result]) -> Check:
    status, message, fix = run()
    return Check(name=name, status=status, message=message, fix=fix)


def _python() -> Result:
    return "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}", None


def _package(name: str) -> Callable[[], Result]:
    def run() -> Result:
        try:
            return "ok", version(name), None
        except PackageNotFoundError:
            return "failed", "not installed", f"pip install {name}"

    return run


def _openslide() -> Result:
    try:
        import openslide
    except (ImportError, OSError) as error:
        return "failed", f"cannot be loaded ({error})", "pip install openslide-python openslide-bin"
    library = openslide.__library_version__
    version = f"openslide-python {openslide.__version__}, library {library}"
    if tuple(int(part) for part in library.split(".")[:3]) < (4, 0, 1):
        return "failed", f"{version} has known memory faults", "pip install 'openslide-bin>=4.0.1'"
    return "ok", version, None


def _cpu() -> Result:
    try:
        from core_model.devices import has_bf16

        fast = has_bf16("cpu")
    except ImportError as error:
        return "failed", f"torch cannot be loaded ({error})", "pip install torch"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    how = (
        "computes bf16" if fast else "computes float32 only: the tile encoder takes about three times as long"
    )
    return "ok", f"{cores} cores; {how}", None


def _gpu() -> Result:
    try:
        import torch
    except ImportError as error:
        return "failed", f"torch cannot be loaded ({error})", "pip install torch"
    if not torch.cuda.is_available():
        return "ok", "none; the embedded model does not need one", None
    free, total = torch.cuda.mem_get_info()
    return "ok", f"{torch.cuda.get_device_name()}, {free >> 30} of {total >> 30} GiB free", None


def _weights() -> Result:
    """The manifest holds a digest of each file: reading the configuration verifies them all."""
    from core_model.models.tile_encoders import MINI

    try:
        from core_model.checkpoints.folder import read_config

        config = read_config(MINI)
    except GiantError as error:
        return "failed", str(error), "Install giant again: its embedded weights are missing or damaged"
    size = sum(file.stat().st_size for file in MINI.rglob("*") if file.is_file())
    return (
        "ok",
        f"{config.name} {config.model_version}, {size / 1e6:.1f} MB, every file as its manifest says",
        None,
    )


def _cache() -> Result:
    from core_model.features.store import CACHE_VARIABLE, cache_folder

    fix = f"Give a folder with space in {CACHE_VARIABLE}"
    try:
        folder = cache_folder()
    except GiantError as error:
        return "failed", error.what, fix
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return "failed", f"{folder} cannot be written ({error.strerror})", fix
    place = f"{folder}, {free / 2**30:.1f} GiB free"
    return ("ok", place, None) if free >= LEAST_FREE else ("warning", place, fix)


def _slide(path: Path, mpp: float | None, isolate: bool) -> Result:
    from core_model.slides.parts import parts_of
    from core_model.slides.slide import open_slide

    try:
        with open_slide(path, mpp, isolate=isolate) as slide:
            files = len(parts_of(slide.path))
            size = f"{slide.width} x {slide.height} px, {slide.mpp:.4g} µm/px from the {slide.mpp_source}"
            facts = f"{slide.vendor}, {size}, {files} file{'s' * (files != 1)}, identity {slide.id[:16]}"
            status: Status = "warning" if slide.warnings else "ok"
            return status, facts, " ".join(slide.warnings) or None
    except GiantError as error:
        return "failed", error.what, error.fix


def _one_slide(path: Path, mpp: float | None, isolate: bool) -> Check:
    from core_model.slides.slide import open_slide

    try:
        with open_slide(path, mpp, isolate=isolate, name="slide") as slide:
            details, warnings = details_of(slide, isolate), " ".join(slide.warnings)
    except GiantError as error:
        return Check(name="slide", status="failed", message=error.what, fix=error.fix)
    message = "it can be opened; what it holds, and what giant does with it:"
    status: Status = "warning" if warnings else "ok"
    return Check(name="slide", status=status, message=message, fix=warnings or None, slide=details)


def _extra(name: str, modules: tuple[str, ...]) -> Callable[[], Result]:
    def run() -> Result:
        missing = list(_missing(modules))
        if missing:
            return (
                "optional",
                f"not installed: {', '.join(missing)}",
                f"pip install 'giant-pathology[{name}]'",
            )
        return "ok", "installed", None

    return run


def _missing(modules: tuple[str, ...]) -> Iterator[str]:
    for module in modules:
        if find_spec(module) is None:
            yield module
