"""`giant verify`: what it compares, and how it prints what it verification."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from agent.cli.streams import ascii_json
from agent.cli.terminal import stdout
from core_model.errors import UsageError

if TYPE_CHECKING:
    from core_model.verify.compare import Verification

COLOURS = {"ok": "green", "beyond": "bold red", "broken": "bold red", "skipped": "dim"}


def compare_outputs(
    folder: Path | None,
    tolerance: float,
    weights: Path | None,
    image: Path | None,
    embedding: Path | None,
    device: str | None = None,
) -> Verification:
    """Compare the goldens of a folder, and a published example of the true weights, where they are given."""
    from core_model.devices import usable_device
    from core_model.verify.compare import Verification, verify_example, verify_folder

    if not tolerance > 0:
        raise UsageError(
            f"the tolerance {tolerance} is not above 0, so nothing could agree", fix="Give one above 0"
        )
    device = usable_device(device)
    checks = verify_folder(folder, tolerance, device) if folder is not None else []
    if weights is not None and image is not None and embedding is not None:
        checks.append(verify_example(weights, image, embedding, device))
    elif weights or image or embedding:
        raise UsageError("an example takes three files", fix="Give --weights, --image and --expected")
    elif folder is None:
        raise UsageError("there is nothing to compare", fix="Give a folder of goldens, or an example")
    return Verification(checks=tuple(checks), device=device)


def show_verification(verification: Verification, as_json: bool) -> None:
    """A table and a verdict on stdout, or one JSON object."""
    if as_json:
        ok = "true" if verification.ok else "false"
        print(ascii_json(f'{{"ok":{ok},{verification.model_dump_json()[1:]}'))
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title, justify in (("golden", "left"), ("output", "left"), ("max |Δ|", "right"), ("", "left")):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    for check in verification.checks:
        delta = "" if check.delta is None else f"{check.delta:.1e}"
        status = Text(check.status, style=COLOURS[check.status])
        if check.message:
            status.append(f": {check.message}", style="not bold")
        elif check.status == "beyond":
            status.append(f" {check.tolerance:g}")
        table.add_row(Text(check.file), Text(check.output), delta, status)
    console = stdout()
    console.print(table)
    console.print(outcome(verification))


def outcome(verification: Verification) -> str:
    """One line: how many outputs agree."""
    if not verification.compared:
        return "Nothing was compared"
    agree = sum(check.status == "ok" for check in verification.checks)
    faults = len({check.file for check in verification.checks if check.status == "broken"})
    files = f"; {faults} file{'s' if faults > 1 else ''} broken" if faults else ""
    return (
        f"{agree} of {verification.compared} outputs agree with the reference on {verification.device}{files}"
    )
