"""Parses a model's reply: its calls, a final answer, what it saw, or what is wrong with the reply.

ParsedReply never fails. Models put JSON into prose, ask for many things at once, refuse, or say nothing; each
comes out as something to act on or as a fault to be told back. Values are made plain on the way: numbers that
no file can hold and texts without end stop here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.answers.reasoning import without_reasoning
from agent.answers.values import is_placeholder
from agent.chat import prompts
from agent.chat.arguments import understood
from agent.chat.schemas import look_arguments
from agent.chat.written_calls import written_calls
from agent.llm.json_text import mended_objects_in, object_meant, objects_in

if TYPE_CHECKING:
    from agent.llm.client import Reply

MAX_TEXT, MAX_ITEMS, MAX_DEPTH = 20_000, 100, 5
MAX_FINDING = 1000
"""Characters of a finding."""
_EXACT = 1 << 53
"""Whole numbers up to here are the same in every file format."""
_NAME_KEYS = ("name", "tool", "action", "tool_name", "function", "function_name")
_ARGUMENT_KEYS = ("arguments", "args", "parameters", "action_input", "tool_input", "input", "params")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Names of tools that providers take."""


class RawCall(NamedTuple):
    """A call as the model made it, with plain values."""

    id: str
    name: str
    args: dict[str, Any]


class ParsedReply(NamedTuple):
    """The content of one reply, with plain values."""

    calls: list[RawCall]
    """Every call, the one that ends the conversation among them."""
    final: dict[str, Any] | None
    """Arguments of the call that ends it, unchecked."""
    faults: list[str]
    """Faults of the reply, one sentence each, to be told to the model."""
    refusal: str | None
    seen: dict[int, str]
    """Step to what its image shows."""
    leaning: dict[str, float]
    """Answer to its probability, as said; empty where nothing usable was."""
    whole: bool
    """Whether its calls can go back to a provider as they came."""


def parse_reply(reply: Reply, verdict: str = "answer") -> ParsedReply:
    """Read a reply. `verdict` is the tool that ends the conversation."""
    calls = [
        RawCall(call.id, tool_name(plain_value(call.name)[:100]), dict(plain_value(call.args)))
        for call in reply.calls[:MAX_ITEMS]
    ]
    whole = not reply.garbled and len(reply.calls) <= MAX_ITEMS and _distinct(calls)
    if not calls:
        calls = list(_calls_in(_spoken(reply.text), verdict, reply.cut))
        whole = whole and not calls
    # Made plain again, because what is understood may stand in a JSON text within the arguments.
    calls = [call._replace(args=dict(plain_value(understood(call.name, call.args)))) for call in calls]
    finals = [call.args for call in calls if call.name == verdict]
    refusal = reply.refusal if not calls else None
    faults = [prompts.GARBLED.format(count=len(reply.garbled))] if reply.garbled else []
    if not calls and not faults and refusal is None:
        faults = [_no_call_fault(reply, verdict)]
    arguments = [call.args for call in calls]
    return ParsedReply(
        calls=calls,
        final=finals[-1] if finals else None,
        faults=faults,
        refusal=plain_value(refusal) if refusal is not None else None,
        seen=_findings(arguments),
        leaning=next((leaning for args in arguments if (leaning := _leaning(args))), {}),
        whole=whole and bool(calls),
    )


def _spoken(text: str) -> str:
    """The text without thoughts. Of gpt-oss a call stands in what else is thought, to whom it is sent."""
    _, mark, call = text.rpartition("to=functions.")
    return without_reasoning(text) or (mark + call if mark else "")


def plain_value(value: Any, depth: int = 0) -> Any:
    """A JSON value that every file and checkpoint can hold; numbers beyond that become text."""
    if isinstance(value, str):
        return value[:MAX_TEXT].encode("utf-8", "replace").decode()  # half characters cannot be written
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) < _EXACT else "a number beyond all bounds"
    if isinstance(value, float):
        return value if math.isfinite(value) else "not a number"
    if depth >= MAX_DEPTH:
        return "nested too deeply"
    if isinstance(value, dict):
        items = list(value.items())[:MAX_ITEMS]
        return {str(plain_value(str(key)))[:200]: plain_value(item, depth + 1) for key, item in items}
    if isinstance(value, list | tuple):
        return [plain_value(item, depth + 1) for item in value[:MAX_ITEMS]]
    return str(type(value).__name__)


def _distinct(calls: Sequence[RawCall]) -> bool:
    """Whether each call names a tool, and has an id of its own by which its result can be given back."""
    ids = {call.id for call in calls}
    return all(ids) and len(ids) == len(calls) and all(_NAME.fullmatch(call.name) for call in calls)


def _no_call_fault(reply: Reply, verdict: str) -> str:
    if reply.cut:
        return prompts.CUT
    return prompts.EMPTY if not reply.text.strip() else prompts.NO_CALL.format(tool=verdict)


def _calls_in(text: str, verdict: str, cut: bool) -> Iterator[RawCall]:
    """The calls that a model wrote into its words.

    Marked ones come first; else it is the last object that is a call, before the last that nearly is.
    """
    names = [*look_arguments(True, "level0"), verdict]
    marked = written_calls(text, names, cut)
    if marked:
        yield from (RawCall("", name, dict(plain_value(args))) for name, args in marked)
        return
    for objects in (objects_in, mended_objects_in):
        calls = [call for value in objects(text) if (call := _call_of(value, verdict)) is not None]
        if calls:
            yield calls[-1]
            return


def _call_of(value: dict[str, Any], verdict: str) -> RawCall | None:
    """A call as models write it: a name with arguments, or an answer's arguments alone."""
    value = _innermost(value)
    name = next((value[key] for key in _NAME_KEYS if isinstance(value.get(key), str)), None)
    args = next((value[key] for key in _ARGUMENT_KEYS if key in value), None)
    args = object_meant(args) if isinstance(args, str) else args
    if name is not None and isinstance(args, dict):
        return RawCall("", tool_name(name[:100]), dict(plain_value(args)))
    names = {*look_arguments(True, "level0"), verdict}
    if name is not None and tool_name(name) in names:  # the arguments stand beside the name
        rest = {key: item for key, item in value.items() if value.get(key) is not name}
        return RawCall("", tool_name(name), dict(plain_value(rest)))
    if len(value) == 1 and (only := next(iter(value))) in names and isinstance(value[only], dict):
        return RawCall("", only, dict(plain_value(value[only])))
    if "confidence" in value and ({"choice", "text", "answer"} & value.keys()) and not _is_form(value):
        return RawCall("", verdict, _renamed(dict(plain_value(value))))
    return None


def _innermost(value: dict[str, Any]) -> dict[str, Any]:
    """The call inside what some models put around it."""
    for key in ("tool_calls", "function", "tool_call", "function_call"):
        inner = value.get(key)
        if isinstance(inner, list) and len(inner) == 1:
            inner = inner[0]
        if isinstance(inner, dict):
            return _innermost(inner)
    return value


def tool_name(name: str) -> str:
    """The name of a tool without what some models put before it."""
    return name.strip().removeprefix("functions.").removeprefix("default_api.").removeprefix("tools.")


def _is_form(value: dict[str, Any]) -> bool:
    """Whether an answer is the form that was asked for, repeated and not filled in."""
    words = [
        value[key]
        for key in ("choice", "text", "answer")
        if isinstance(value.get(key), str) and value[key].strip()
    ]
    return bool(words) and all(map(is_placeholder, words))


def _renamed(value: dict[str, Any]) -> dict[str, Any]:
    """An answer's text may be called "answer" by a model that was told to give an answer."""
    return value if "text" in value else {**value, "text": value.get("answer", "")}


def _findings(arguments: Sequence[dict[str, Any]]) -> dict[int, str]:
    """Step to what was said of its image; entries of another shape are passed over."""
    findings: dict[int, str] = {}
    for args in arguments:
        entries = args.get("seen")
        for entry in entries if isinstance(entries, list) else []:
            step, finding = (entry.get("step"), entry.get("finding")) if isinstance(entry, dict) else (0, 0)
            if isinstance(step, int) and isinstance(finding, str) and finding.strip():
                findings[step] = " ".join(finding.split())[:MAX_FINDING]
    return findings


def _leaning(args: dict[str, Any]) -> dict[str, float]:
    """Answers with their weights; nothing at all where one entry is malformed."""
    entries = args.get("leaning")
    if not isinstance(entries, list):
        return {}
    weights: dict[str, float] = {}
    for entry in entries:
        name, p = (entry.get("answer"), entry.get("probability")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not name.strip() or isinstance(p, bool):
            return {}
        if not isinstance(p, int | float) or not 0 <= p <= 100:
            return {}
        weights[" ".join(name.split())[:MAX_FINDING]] = float(p)
    return weights
