"""What is said to a server that takes less than others. Nothing of it is said to any other server.

A change here makes other requests, which are then sent anew; it does not make another run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

CALLS = """\
How to act. Here you cannot call tools directly. Write each call as one JSON object, with all its arguments, \
at the end of your reply:
{example}
The tools and their arguments:
{tools}"""

RESULT = "Result of {name}: "
BRIDGE = "I have the result."
RIGHT_FORM = "A call in the right form: {example}"
ON_SHEET = "[{label} is a panel of the contact sheet at the end.]"
SHEET = """\
The last image is a contact sheet of several images, each under its label. Read places in a panel as if it \
were an image of its own, by the numbers and marks at its edges."""
SMALLER = """\
The images are shown smaller than they were made. Read places by the numbers and marks at their edges."""

_SAMPLES: Mapping[str, Any] = {
    "integer": 1,
    "number": 0.5,
    "boolean": False,
    "string": "…",
}
_NUMBERS: Mapping[str, float] = {
    "x": 1200,
    "y": 800,
    "w": 2000,
    "h": 1500,
    "x0": 120,
    "y0": 80,
    "x1": 320,
    "y1": 230,
    "mpp": 0,
    "k": 5,
}
"""Sample values of fields, so that an example looks like a call."""


def calls_in_words(tools: Sequence[dict[str, Any]]) -> str:
    """How to write calls of these tools, as LangChain's `bind_tools` takes them."""
    lines = []
    for tool in tools:
        function = tool["function"]
        lines.append(f"- {function['name']}: {function['description']}")
        for name, field in function["parameters"]["properties"].items():
            lines.append(f"    {name} ({_kind(field)}): {field.get('description', '')}".rstrip(": "))
    return CALLS.format(example=example_of(tools[0]), tools="\n".join(lines))


def example_of(tool: dict[str, Any]) -> str:
    """A call of a tool in its right form, as JSON."""
    function = tool["function"]
    fields = function["parameters"]["properties"]
    arguments = {name: _sample(name, field) for name, field in fields.items()}
    return json.dumps({"tool": function["name"], "arguments": arguments}, ensure_ascii=False)


def _kind(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return "one of " + ", ".join(json.dumps(value, ensure_ascii=False) for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {_kind(field['items'])}"
    if field.get("type") == "object":
        return "{" + ", ".join(f"{name}: {_kind(inner)}" for name, inner in field["properties"].items()) + "}"
    return str(field.get("type", "any"))


def _sample(name: str, field: Mapping[str, Any]) -> Any:
    if field.get("type") == "array":
        return [_sample(name, field["items"])]
    if field.get("type") == "object":
        return {inner: _sample(inner, value) for inner, value in field["properties"].items()}
    if name == "direction":
        return field["enum"][0]
    return _NUMBERS.get(name, _SAMPLES.get(str(field.get("type")), "…"))
