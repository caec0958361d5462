"""Which words of a question carry its subject, and which of them a model has never read.

A question about something the model knows nothing of ("which stain was used?", "is the margin free?")
gives itself away by its nouns; its function words are in every question.
"""

from __future__ import annotations

import re
from collections.abc import Collection

LETTERS = "ABCDEFGH"


_FUNCTION = """
    a about all also an and any are as assistant at be been but by can could did do does for from get
    give given had has have he her here his how i if in into is it its just let like look may me might
    more most much my no not of on one only option options or other our out please see should show shown
    shows so some tell than that the their them then there these they this those to too up us user very
    was we were what when where whether which while who why will with would yes you your"""
FUNCTION_WORDS = frozenset(_FUNCTION.split())
"""Words that say nothing about the subject of a question."""

_WORD = re.compile(r"[^\W\d_]{2,}")


def content_words(text: str) -> list[str]:
    """The words of `text` that carry its subject, lower-case, in order, repeats included.

    Function words, single letters and numbers are left out. Any script counts as words.
    """
    return [word for word in _WORD.findall(text.lower().replace("'s", "")) if word not in FUNCTION_WORDS]


def unknown_words(text: str, vocabulary: Collection[str]) -> list[str]:
    """Content words of `text` that are not in `known`, in order, each once.

    A plural or singular of a known word is known.
    """
    missing = dict.fromkeys(word for word in content_words(text) if not _knows(word, vocabulary))
    return list(missing)


def _knows(word: str, vocabulary: Collection[str]) -> bool:
    forms = (word, f"{word}s", word.removesuffix("s"), word.removesuffix("es"))
    return any(form in vocabulary for form in forms)


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
