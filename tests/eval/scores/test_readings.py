"""The bench that holds one reader of answers against another over recorded replies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core_model.errors import RunError
from eval.scores.readings import main

REPLIES = [
    {"reply": "The answer is B.", "options": ["lung", "liver"], "meant": "liver"},
    {"reply": "A liver.", "options": ["lung", "liver"], "meant": "liver"},
    {"reply": "Lung or liver", "options": ["lung", "liver"], "meant": None},
    {"reply": "GG3", "labels": [*"012345"], "meant": "3"},
]


def test_readings_are_counted_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, before = tmp_path / "replies.jsonl", tmp_path / "before.jsonl"
    file.write_text("\n".join(map(json.dumps, REPLIES)))
    main(file)
    assert capsys.readouterr().out == "now:    4 replies, 4 read right, 0 read wrong, 0 of 3 not read\n"
    read = [json.loads(line)["read"] for line in (tmp_path / "replies.read.jsonl").read_text().splitlines()]
    assert read == ["liver", "liver", None, "3"]
    earlier = ["liver", "lung", "lung", None]
    before.write_text("\n".join(json.dumps({"read": read}) for read in earlier))
    main(file, before)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "before: 4 replies, 1 read right, 2 read wrong, 1 of 3 not read"
    assert lines[-1] == "3 of 4 readings changed: 3 mended, 0 spoilt"


def test_what_is_no_file_of_replies_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be read"):
        main(tmp_path / "none.jsonl")
