"""The facts of a record, without the sentences that giant itself writes about them.

What is left out: the answer and the findings in words, reasons, and what the evidence check remarks, with the
hashes that hang on them. What stays: choices, confidences, probabilities, boxes, µm/px, images and their
hashes, calls and their arguments, costs, and everything that a model or a person said.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SENTENCES = frozenset(
    {"finding", "reason", "unsupported", "unchecked", "seen", "limited", "sealed", "server_notices",
     "mpp_source"}
)  # fmt: skip
"""Fields that hold nothing but sentences of ours, or hashes of them, or say where the µm/px come from."""


def facts_of(path: Path) -> list[Any]:
    """The facts of a JSON file, or of each line of a `.jsonl` file. Raises `ValueError` where it is none."""
    text = path.read_text(encoding="utf-8")
    values = text.removesuffix("\n").split("\n") if path.suffix == ".jsonl" else [text]
    return [_facts(json.loads(value)) for value in values if value]


def _facts(value: Any) -> Any:
    if isinstance(value, list):
        return [_facts(item) for item in value]
    if not isinstance(value, dict):
        return value
    sentences = set(SENTENCES)
    if "confidence" in value:  # an answer or a vote: in other dictionaries "answer" is what a model said
        sentences.add("answer")
    if "tool" in value:  # an observation: the text of a claim is a model's own
        sentences.add("text")
    # A field that an older version did not know is None.
    return {key: _facts(item) for key, item in value.items() if key not in sentences and item is not None}
