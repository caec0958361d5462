"""Options that stand in a question's text, as WSI-Bench publishes them: "… A) first B) second …"."""

from __future__ import annotations

import re

LETTERS = "ABCDEFGH"


def split_options(text: str) -> tuple[str, tuple[str, ...]]:
    """A question without its options, and these; none where fewer than A) and B) follow each other."""
    marks: list[re.Match[str]] = []
    for letter in LETTERS:
        mark = re.compile(rf"(?:^|\s){letter}\)").search(text, marks[-1].end() if marks else 0)
        if mark is None:
            break
        marks.append(mark)
    if len(marks) < 2:
        return one_line(text), ()
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    options = (one_line(text[mark.end() : end]) for mark, end in zip(marks, ends, strict=True))
    return one_line(text[: marks[0].start()]), tuple(options)


def one_line(text: str) -> str:
    """On one line: a table's reader may take a line break for the end of a row."""
    return " ".join(text.split())
