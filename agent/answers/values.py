"""The places in which models put an answer so that it can be found: JSON, \\boxed{}, <answer>."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from agent.llm.json_text import mended_objects_in, objects_in

ANSWER_KEYS = (
    "answer", "choice", "option", "final_answer", "finalanswer", "final answer", "final_choice",
    "selected", "selected_option", "selected_answer", "selected_choice", "selection", "correct_answer",
    "correct_option", "correct_choice", "answer_choice", "answer_option", "chosen_option", "chosen",
    "best_option", "best_answer", "answer_letter", "my_answer", "predicted_answer", "predicted_option",
    "答案", "antwort", "réponse", "reponse", "respuesta", "risposta", "resposta", "ответ",
)  # fmt: skip
LESSER_KEYS = ("letter", "label", "prediction", "response", "result", "diagnosis", "grade", "value", "output")
"""Keys that hold the answer where no key of the first kind is there."""
_PLACEHOLDER = re.compile(
    r"""\s*(?:\.{2,}|…|_+|-+|\?+|<[^<>\d][^<>]*>|\{[^{}]*\}|\[[^\[\]]{3,}\]|x{2,}
    |(?:the\s+|your\s+|final\s+|correct\s+|selected\s+|chosen\s+|one\s+)*
      (?:string|str|number|int|integer|letter|text|option|choice|answer|label)
      (?:\s+(?:here|letter|number|text|word\s+for\s+word))*
    |(?:one|exactly\s+one|the\s+(?:letter|number|text|name))\s+of\s+(?:the\s+|your\s+)?(?:options?|answers?|choices?|letters?|labels?|numbers?|above|following)\b.*
    |[A-H](?:\s*[|/]\s*[A-H])+|[1-9](?:\s*[|/]\s*[1-9]){2,})\s*""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
"""What stands in an example of the form that was asked for, and is no answer."""
_BOX_START = re.compile(r"\\f?boxed\s*\{")
_TAGGED = re.compile(
    r"<(answer|final_answer|finalanswer|final|choice|option|conclusion|solution|response|output|result|ans)>"
    r"(.*?)(?:</\1\s*>|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_SQUARE_TAGGED = re.compile(r"\[ANSWER\](.*?)(?:\[/ANSWER\]|\Z)", re.IGNORECASE | re.DOTALL)
_DOUBLE_BRACKETS = re.compile(r"\[\[\s*([^\[\]]+?)\s*\]\]")
_GLM_BOX = re.compile(r"<\|begin_of_box\|>(.*?)(?:<\|end_of_box\|>|\Z)", re.DOTALL)


def is_placeholder(value: Any) -> bool:
    """Whether a value is what a form has where the answer belongs: "...", "<letter>", "A|B|C"."""
    return isinstance(value, str) and _PLACEHOLDER.fullmatch(value) is not None


def values_under(text: str, key: str) -> Iterator[Any]:
    """Values under `key` of the JSON objects in a text, the last object first.

    JSON with slips of form (single quotes, a comma too many) counts where no object has the key as it stands.
    """
    for read_objects in (objects_in, mended_objects_in):
        values = [value for item in read_objects(text) for value in _values_in(item, (key,))]
        if values:
            yield from reversed(values)
            return


def answers_in_json(text: str) -> list[list[Any]]:
    """For each JSON object with an answer its values, the last object first; an empty form has none."""
    for read_objects in (objects_in, mended_objects_in):
        found = []
        for item in read_objects(text):
            for holder in _objects_in(item, ANSWER_KEYS):
                own = _own_values(holder, ANSWER_KEYS)
                lesser = [
                    value for value in _own_values(holder, LESSER_KEYS) if not isinstance(value, dict | list)
                ]
                values = [value for value in own or lesser if not is_placeholder(value)]
                if values:
                    found.append(values)
        if found:
            return found[::-1]
    return []


def marked_answers(text: str) -> list[str]:
    """What stands in \\boxed{}, <answer> and their like, in order; forms that are not filled in are none."""
    found = [(match.start(), match[2]) for match in _TAGGED.finditer(text)]
    for marks in (_GLM_BOX, _SQUARE_TAGGED, _DOUBLE_BRACKETS):
        found += [(match.start(), match[1]) for match in marks.finditer(text)]
    for match in _BOX_START.finditer(text):
        found.append((match.start(), _braced(text, match.end())))
    return [words for _, words in sorted(found) if words.strip() and not is_placeholder(words)]


def without_objects(text: str) -> str:
    """The text outside of its braces."""
    depth, kept = 0, []
    for sign in text:
        depth += sign == "{"
        if depth == 0:
            kept.append(sign)
        elif sign == "}":
            depth -= 1
    return "".join(kept)


def _braced(text: str, start: int) -> str:
    depth = 1
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start:place]
    return text[start:]


def _values_in(item: Any, keys: tuple[str, ...]) -> Iterator[Any]:
    for holder in _objects_in(item):
        yield from _own_values(holder, keys)


def _own_values(holder: dict[str, Any], keys: tuple[str, ...]) -> list[Any]:
    names = {str(name).strip().lower(): value for name, value in holder.items()}
    return [names[key] for key in keys if key in names]


def _objects_in(item: Any, closed: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """An object, then the objects inside it but for those under the keys `closed`, in their order."""
    stack = [item]
    while stack:  # not by recursion: a reply may nest deeper than functions can
        value = stack.pop()
        if isinstance(value, dict):
            yield value
            stack += [inner for name, inner in value.items() if str(name).strip().lower() not in closed][::-1]
        elif isinstance(value, list):
            stack += reversed(value)
