"""Arguments of a call as models write them, made those that were meant, where only one thing can be meant.

Nulls are what is not given; numbers may be texts, lists and objects JSON in a text; a call may stand inside
its own arguments. What could be read in two ways stays as it is, and is refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from agent.llm.json_text import object_meant

LISTS = {"seen", "leaning", "claims", "steps"}
NUMBERS = {"x", "y", "w", "h", "x0", "y0", "x1", "y1", "mpp", "k", "fraction", "step", "probability"}
OPTIONAL = {"mpp", "k", "fraction", "step"}
"""Numbers that need not be given."""
_WRAPPERS = {"arguments", "args", "parameters", "params", "input", "kwargs", "action_input", "tool_input"}
_NOT_GIVEN = {"null", "none", "nan", "undefined", "", "not a number", "n/a"}
_NUMBER = re.compile(
    r"\s*([+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|[+-]?\.\d+)\s*(?:px|pixels|[µμu]m\s*/\s*px|mpp)?\s*", re.I
)
_STEP = re.compile(r"\s*step\s*#?\s*(\d{1,4})\s*", re.IGNORECASE)
_ALIASES = {"width": "w", "height": "h", "left": "x", "top": "y"}


def understood(name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that were meant."""
    args = _unwrapped(name, dict(args))
    known: dict[str, Any] = {}
    for field, value in args.items():
        value = _value(field, value)
        if value is not None:
            known[field] = value
    return known


def box_in_fields(args: Mapping[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    """The arguments with a box that is given as one value in the fields that it has in this convention."""
    given = next((args[name] for name in ("box", "bbox", "bbox_2d", "region") if args.get(name)), None)
    if any(field in args for field in fields) or given is None:
        renamed = {_ALIASES.get(name, name): value for name, value in args.items()}
        return renamed if fields[0] == "x" and not set(fields) <= args.keys() else dict(args)
    if isinstance(given, str):
        given = _parsed(given)
    if isinstance(given, dict):
        return {**args, **box_in_fields(given, fields)}
    in_order = "bbox_2d" not in args or fields[0] != "x"  # Qwen's own form is two corners
    if isinstance(given, list) and len(given) == 4 and in_order and args.get("bbox") is not given:
        return {**args, **{name: _value(name, number) for name, number in zip(fields, given, strict=True)}}
    return dict(args)


def _unwrapped(name: str, args: dict[str, Any]) -> dict[str, Any]:
    """The arguments that stand inside themselves: {"arguments": {…}}, {"zoom": {…}}, {"name": …, …}."""
    for _ in range(3):
        inner_names = [key for key in args if key in _WRAPPERS or key == name]
        rest = args.keys() - set(inner_names)
        if len(inner_names) != 1 or not rest <= {"name", "tool", "type", "id", "function"}:
            return args
        inner = args[inner_names[0]]
        inner = object_meant(inner) if isinstance(inner, str) else inner
        if not isinstance(inner, dict):
            return args
        args = inner
    return args


def _value(field: str, value: Any) -> Any:
    """One value; None where it is not given."""
    if isinstance(value, float) and not math.isfinite(value):
        value = "nan"
    if isinstance(value, str) and value.strip().casefold() in _NOT_GIVEN and field in OPTIONAL | LISTS:
        return None
    if field in NUMBERS:
        return _number(value)
    if field in ("abstain", "against", "conflict"):
        return (
            {"true": True, "false": False}.get(value.strip().casefold(), value)
            if isinstance(value, str)
            else value
        )
    if field in LISTS:
        return _list(field, value)
    return value


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match, step = _NUMBER.fullmatch(value), _STEP.fullmatch(value)
    if match is not None:
        number = float(match[1].replace(",", ""))
        return int(number) if number.is_integer() else number
    return int(step[1]) if step is not None else value


def _list(field: str, value: Any) -> Any:
    """A list of entries, also where it is JSON in a text, one entry alone, or names with values."""
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, dict):
        names = {"seen": ("step", "finding"), "leaning": ("answer", "probability")}.get(field)
        if names is not None and not set(names) & value.keys():
            value = [{names[0]: key, names[1]: inner} for key, inner in value.items()]
        else:
            value = [value]
    if field == "steps":
        return [_number(item) for item in value] if isinstance(value, list) else _number(value)
    return [_entry(item) for item in value] if isinstance(value, list) else value


def _entry(item: Any) -> Any:
    item = object_meant(item) or item if isinstance(item, str) else item
    if not isinstance(item, dict):
        return item
    return {name: inner for name, value in item.items() if (inner := _value(name, value)) is not None}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if text.strip().startswith("["):
        inner = object_meant(f'{{"list": {text.strip()}}}')
        return inner["list"] if inner is not None else text
    return object_meant(text) or text
