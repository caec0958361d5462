"""Calls that a model wrote into its words: marked as calls by one of the many marks that models have for it.

    <tool_call>{"name": "zoom", "arguments": {...}}</tool_call>     Qwen, Hermes; also <function=…> inside
    [TOOL_CALLS] [{"name": "zoom", "arguments": {...}}]             Mistral; also [TOOL_CALLS]zoom{...}
    <function=zoom>{...}</function>                                 Llama
    Action: zoom(x=1, y=2)    Action: zoom\\nAction Input: {...}     ReAct
    [zoom(x=1, y=2)]   <|python_tag|>zoom.call(x=1)                 Llama, Python
    to=functions.zoom … {...}   zoom<|tool▁sep|>{...}               gpt-oss, DeepSeek, Kimi

Only names of tools count, so that prose is no call. What is marked is read before plain JSON objects are.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from agent.llm.json_text import object_meant

PREFIX = r"(?:functions?|tools?|default_api|api|print\()?[.:/]?"
_MARK = r"""(?:<\|?tool[_▁ ]?calls?(?:[_▁]begin)?\|?>|<\|python_tag\|>|\[TOOL_CALLS?\]|<\|?action_start\|?>
|<function_calls?>|```tool_(?:code|call)s?|<\|tool▁sep\|>|<\|channel\|>|<start_function_call>|\baction\s*:|\btool\s*:
|\bfunction(?:_call)?\s*:|\bcall\s*:|to=)"""
_MARKED = re.compile(_MARK.replace("\n", ""), re.IGNORECASE)
_FUNCTION = re.compile(
    r"<function[=\s]\"?(?:name=\"?)?(?P<name>[\w.-]+)\"?\s*>(?P<body>.*?)(?:</function>|$)", re.S
)
_INVOKE = re.compile(r"<invoke\s+name=\"(?P<name>[\w.-]+)\"\s*>(?P<body>.*?)</invoke>", re.S)
_PARAMETER = re.compile(
    r"<parameter[=\s](?:name=)?\"?(?P<key>\w+)\"?[^>]*>\s*(?P<value>.*?)\s*(?=</parameter>|<parameter|$)",
    re.S,
)
_GLM = re.compile(
    r"<arg_key>\s*(?P<key>\w+)\s*</arg_key>\s*<arg_value>\s*(?P<value>.*?)\s*</arg_value>", re.S
)
_BETWEEN = (
    r"[\s`*\"'\]]{0,60}(?::\d+)?(?:\s|`|json|\*|\"|'|=|:|<\|[\w▁]+\|>|\[ARGS\]|action[ _]?input|arguments"
    r"|args|input|parameters|with){0,60}"
)
_FILL = re.compile(r"(?:[\s`*\"'\[(<|>]|commentary|function)*")
_JSON_MARK = re.compile(
    r"(?:<\|?tool[_▁ ]?calls?\|?>|\[TOOL_CALLS?\]|<\|python_tag\|>|```tool_calls?)"
    r"\s*(?:json)?\s*(?=[\[{])",
    re.IGNORECASE,
)
_JSON_END = r"</tool|<\|/?tool|\[/?TOOL|<\|python|```"
_MOST = 20
MOST_TEXT = 20_000
"""Characters of a reply in which calls are looked for."""


class Written(NamedTuple):
    """A call with the arguments as they were written."""

    name: str
    args: dict[str, Any]


def written_calls(text: str, names: Sequence[str], cut: bool = False) -> list[Written]:
    """The marked calls of tools with these names, in order; none where no mark stands.

    `cut` says that the text was cut off: then a call that does not end is none.
    """
    text = text[:MOST_TEXT]
    tagged = [*_in_json(text, names, cut)] or [*_tagged(text, names)]
    if tagged:
        return tagged[:_MOST]
    call = re.compile(rf"(?<![\w]){PREFIX}(?P<name>{'|'.join(map(re.escape, names))})\b", re.IGNORECASE)
    found: list[Written] = []
    place = 0
    while len(found) < _MOST and (match := call.search(text, place)) is not None:
        place = match.end()
        if not _is_marked(text, match.start()):
            continue
        arguments = _arguments_at(text, match.end(), cut)
        if arguments is not None:
            args, place = arguments
            found.append(Written(match["name"].casefold(), args))
    return found


def _in_json(text: str, names: Sequence[str], cut: bool) -> Iterator[Written]:
    """Calls that are objects, or a list of them, behind a mark."""
    for mark in _JSON_MARK.finditer(text):
        body = re.split(_JSON_END, text[mark.end() :], maxsplit=1)[0].strip()
        end = _closing(body, 0)
        if end is None and cut:
            continue
        if body.startswith("["):
            whole = object_meant(f'{{"calls": {body[: None if end is None else end + 1]}}}')
            items = whole.get("calls") if whole is not None else []
        else:
            items = [object_meant(body)]
        for item in items if isinstance(items, list) else []:
            if not isinstance(item, dict) or not isinstance(item.get("name"), str):
                continue
            name = item["name"].rpartition(".")[2].casefold()
            args = item.get("arguments", item.get("parameters", item.get("args", {})))
            args = object_meant(args) if isinstance(args, str) else args
            if name in names and isinstance(args, dict):
                yield Written(name, args)


def _tagged(text: str, names: Sequence[str]) -> Iterator[Written]:
    """Calls between tags that name the tool."""
    for match in sorted([*_FUNCTION.finditer(text), *_INVOKE.finditer(text)], key=lambda m: m.start()):
        name = match["name"].rpartition(".")[2].casefold()
        if name not in names:
            continue
        pairs = {m["key"]: m["value"] for m in _PARAMETER.finditer(match["body"])}
        args = pairs if pairs else object_meant(match["body"])
        if args is not None:
            yield Written(name, dict(args))


def _is_marked(text: str, place: int) -> bool:
    """Whether a mark of a call stands right before a place, or the place begins a list of calls or a line."""
    before = text[max(0, place - 60) : place]
    marks = list(_MARKED.finditer(before))
    if marks and _FILL.fullmatch(before, marks[-1].end()):
        return True
    return re.search(r"(?:^|\n|;|\[|\),)\s*(?:[`*]+\w*\s*)?(?:print\()?$", before) is not None


def _arguments_at(text: str, place: int, cut: bool) -> tuple[dict[str, Any], int] | None:
    """The arguments that stand behind a tool's name, and where they end."""
    rest = text[place:]
    python = re.match(r"\s*(?:\.call)?\s*\(", rest)
    if python is not None:
        end = _closing(rest, python.end() - 1)
        args = None if end is None else _in_brackets(rest[python.end() : end])
        return None if args is None or end is None else (args, place + end + 1)
    pairs = {m["key"]: m["value"] for m in _GLM.finditer(rest.partition("</tool_call>")[0])}
    if pairs:
        return dict(pairs), place + 1
    start = re.match(_BETWEEN + r"[\[(]?(?=\{)", rest, re.IGNORECASE)
    if start is None:
        return None
    end = _closing(rest, start.end())
    if end is None and cut:
        return None
    args = object_meant(rest[start.end() : None if end is None else end + 1])
    return None if args is None else (args, place + (len(rest) if end is None else end + 1))


def _in_brackets(words: str) -> dict[str, Any] | None:
    """Arguments as Python writes them: by keyword, or as one dictionary."""
    if words.strip().startswith("{"):
        return object_meant(words)
    try:
        call = ast.parse(f"f({words.strip()})", mode="eval").body
        assert isinstance(call, ast.Call)
        pairs = {keyword.arg: ast.literal_eval(_plain(keyword.value)) for keyword in call.keywords}
    except (SyntaxError, ValueError, AssertionError, RecursionError, MemoryError):
        return None
    if call.args or None in pairs:
        return None
    return {str(name): value for name, value in pairs.items()}


def _plain(node: ast.expr) -> ast.expr:
    """An expression with the constants of JSON in place of names."""

    class Constants(ast.NodeTransformer):
        def visit_Name(self, name: ast.Name) -> ast.expr:
            known = {"true": True, "false": False, "null": None, "nan": None, "none": None}
            if name.id.casefold() not in known:
                raise ValueError(f"{name.id} is no value")
            return ast.Constant(known[name.id.casefold()])

    changed: ast.expr = ast.fix_missing_locations(Constants().visit(node))
    return changed


def _closing(text: str, start: int) -> int | None:
    """The place of the bracket that closes the one at `start`; None where there is none."""
    depth, quote = 0, ""
    place = start
    while place < len(text):
        sign = text[place]
        if quote:
            place += sign == "\\"
            quote = "" if sign == quote else quote
        elif sign in "\"'" and not (sign == "'" and text[place - 1 : place].isalnum()):
            quote = sign
        elif sign in "([{":
            depth += 1
        elif sign in ")]}":
            depth -= 1
            if depth == 0:
                return place
        place += 1
    return None
