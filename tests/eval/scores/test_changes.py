"""Two folders compared: what changed is found, and chance is called chance."""

from __future__ import annotations

from pathlib import Path

import pytest

from core_model.errors import RunError
from eval.asking.jsonl import write_lines
from eval.asking.results import RESULTS, Result
from eval.scores.compare import change_verdict, changes


def result(number: int, said: str | None, truth: str = "a", mode: str = "agent") -> Result:
    return Result(
        benchmark="demo", id=str(number), mode=mode, slide="s", metric="accuracy", truth=truth,
        position=1, options=2, said=said,
    )  # fmt: skip


def folder(path: Path, results: list[Result]) -> Path:
    path.mkdir()
    write_lines(path / RESULTS, results)
    return path


def test_a_real_change_is_called_one(tmp_path: Path) -> None:
    old = folder(tmp_path / "old", [result(i, "a" if i < 20 else "b") for i in range(60)])
    new = folder(tmp_path / "new", [result(i, "a" if i != 3 else None) for i in range(60)])
    (row,) = changes(old, new)["rows"]
    assert (row["n"], row["lost"], len(row["gained"]), row["otherwise"]) == (60, ["3"], 40, 41)
    assert row["value_before"] == pytest.approx(1 / 3)
    assert row["value_after"] == pytest.approx(59 / 60)
    assert change_verdict(row) == "better"
    (back,) = changes(new, old)["rows"]
    assert change_verdict(back) == "worse"


def test_chance_is_called_chance(tmp_path: Path) -> None:
    old = folder(tmp_path / "old", [result(i, "a" if i % 2 else "b") for i in range(20)])
    new = folder(tmp_path / "new", [result(i, "a" if i % 2 or i == 0 else "b") for i in range(20)])
    (row,) = changes(old, new)["rows"]
    assert row["gained"] == ["0"]
    assert change_verdict(row) == "no difference shown"


def test_only_what_both_were_asked_counts(tmp_path: Path) -> None:
    old = folder(tmp_path / "old", [result(i, "a") for i in range(5)] + [result(0, "a", mode="slide")])
    new = folder(tmp_path / "new", [result(i, "a") for i in range(3, 9)])
    found = changes(old, new)
    assert (found["only_before"], found["only_after"], [r["n"] for r in found["rows"]]) == (4, 4, [2])


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    old = folder(tmp_path / "old", [result(1, "a")])
    with pytest.raises(RunError, match="no results"):
        changes(old, folder(tmp_path / "empty", []))
    with pytest.raises(RunError, match="share no question"):
        changes(old, folder(tmp_path / "other", [result(2, "a")]))
    with pytest.raises(RunError, match="different right answers"):
        changes(old, folder(tmp_path / "truth", [result(1, "a", truth="b")]))


@pytest.mark.parametrize(
    ("p", "difference", "words"),
    [
        (0.049, 0.1, "better"),
        (0.049, -0.1, "worse"),
        (0.05, 0.1, "no difference shown"),
        (0.2, -0.4, "no difference shown"),
    ],
)
def test_a_difference_is_called_one_below_five_per_cent(p: float, difference: float, words: str) -> None:
    assert change_verdict({"p_mcnemar_holm": p, "difference": difference}) == words
