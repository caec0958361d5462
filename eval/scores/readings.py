"""Scores the reader of answers over recorded replies, and says what changed since another reader read them.

    giant bench reading --replies replies.jsonl      right, wrong and unread
    … --before before.jsonl                          and how many readings changed

A line of `replies.jsonl` holds `reply`, `options` (or `labels` of a scale), and `meant`: the answer that a
person reads, null for none. What is read is written beside it as `replies.read.jsonl`, which can be the
`--before` of a later version.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


def read_all(replies: Sequence[dict[str, Any]]) -> list[str | None]:
    """What the reader makes of each reply."""
    from eval.asking.reading import read_choice, read_label

    return [
        read_choice(item["reply"], item["options"])
        if item.get("options")
        else read_label(item["reply"], item["labels"])
        for item in replies
    ]


def counts(replies: Sequence[dict[str, Any]], readings: Sequence[str | None]) -> dict[str, int]:
    """How many readings are right, how many are another answer than was meant, how many are missing."""
    pairs = [(item["meant"], read) for item, read in zip(replies, readings, strict=True)]
    return {
        "replies": len(pairs),
        "right": sum(meant == read for meant, read in pairs),
        "wrong": sum(read is not None and meant != read for meant, read in pairs),
        "unread": sum(read is None and meant is not None for meant, read in pairs),
        "readable": sum(meant is not None for meant, _ in pairs),
    }


def report(replies: Sequence[dict[str, Any]], before: Sequence[str | None] | None) -> Iterator[str]:
    """The lines that are printed."""
    readings = read_all(replies)
    if before is not None:
        yield f"before: {_in_words(counts(replies, before))}"
    yield f"now:    {_in_words(counts(replies, readings))}"
    if before is not None:
        changed = [pair for pair in zip(before, readings, strict=True) if pair[0] != pair[1]]
        triples = list(zip(before, readings, [item["meant"] for item in replies], strict=True))
        mended = sum(old != new == meant for old, new, meant in triples)
        spoilt = sum(new != old == meant for old, new, meant in triples)
        yield f"{len(changed)} of {len(replies)} readings changed: {mended} mended, {spoilt} spoilt"


def main(replies_file: Path, before_file: Path | None = None) -> None:
    """Read, print, and write the readings. Raises `RunError` where a file cannot be read."""
    from core_model.files import write_text

    replies = _lines(replies_file)
    before = None if before_file is None else [item["read"] for item in _lines(before_file)]
    for line in report(replies, before):
        print(line)
    readings = read_all(replies)
    lines = [
        json.dumps(item | {"read": read}, ensure_ascii=False)
        for item, read in zip(replies, readings, strict=True)
    ]
    write_text(replies_file.with_suffix(".read.jsonl"), "\n".join(lines) + "\n")


def _in_words(found: dict[str, int]) -> str:
    return (
        f"{found['replies']} replies, {found['right']} read right, {found['wrong']} read wrong,"
        f" {found['unread']} of {found['readable']} not read"
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    from core_model.errors import RunError

    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    except (OSError, ValueError) as error:
        raise RunError(f"the file cannot be read ({error})", where=path, fix="Give JSON lines") from error
