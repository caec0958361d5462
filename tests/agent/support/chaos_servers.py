"""Servers that take less, and models that write calls as they like, drawn by dice for runs of chaos.

drawn = Drawn.by(dice)                          # two in five are usual in everything
drawn.refusal(request)                          # the answer of a server that does not take it, or None
drawn.written(reply, request, dice)             # a reply with its calls as this model writes them
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import chat_server as server
import played_servers as played

from agent.chat.sight import QUESTION, drawn_number, number_image

Spoil = Callable[[str, dict[str, Any]], tuple[str, Any]]
ALTERNATE = "Conversation roles must alternate user/assistant/user/assistant/..."
CONTEXT = "This model's maximum context length is {most} tokens. However, you requested {{asked}} tokens"
LARGE = b"<html>413 Request Entity Too Large</html>"


def _once(answer: server.Served) -> played.Rule:
    """A server that refuses one request, whatever it holds, and takes all others."""
    answers = [answer]
    return lambda request: answers.pop() if answers else None


def _no_order(wrong: Callable[[str, str], bool], message: str) -> played.Rule:
    return played.no_order(wrong, message, 400)


RULES: dict[str, Callable[[random.Random], played.Rule]] = {
    "no tools": lambda dice: played.no_tools(dice.choice([400, 500]), "m does not support tools"),
    "no choice": lambda dice: played.no_choice(400, "tool_choice is not supported"),
    "one image": lambda dice: played.most_images(1, "At most 1 image(s) may be provided in one request."),
    "some images": lambda dice: played.most_images(dice.randint(2, 4), "too many images"),
    "no images": lambda dice: played.most_images(0, "this model does not support images"),
    "short": lambda dice: played.most_tokens(
        most := dice.choice([200, 1500, 3000]), CONTEXT.format(most=most)
    ),
    "small": lambda dice: played.most_bytes(
        dice.choice([2000, 20_000, 40_000]), server.garbage(LARGE, status=413)
    ),
    "once too long": lambda dice: _once(server.error(400, "prompt is too long")),
    "once too large": lambda dice: _once(server.garbage(LARGE, status=413)),
    "a minute": lambda dice: played.most_tokens(
        3000, "Request too large for m on tokens per min (TPM): Limit 3000, Requested {asked}.", 429
    ),
    "no user after tool": lambda dice: _no_order(
        lambda before, role: (before, role) == ("tool", "user"), "Unexpected role 'user' after role 'tool'"
    ),
    "alternating": lambda dice: _no_order(lambda before, role: before == role or role == "tool", ALTERNATE),
    "no system": lambda dice: _no_order(lambda before, role: role == "system", "System role not supported"),
}
"""What a server does not take, for the whole run or once."""

SPOILS: tuple[Spoil, ...] = (
    lambda name, args: (name, json.dumps(args)[:-1]),
    lambda name, args: (name, str(args)),
    lambda name, args: (name, f"Here: {json.dumps(args)} as asked"),
    lambda name, args: (
        name,
        {key: None if key in ("mpp", "step") else value for key, value in args.items()},
    ),
    lambda name, args: (name, {key: json.dumps(value) for key, value in args.items()}),
    lambda name, args: (name, {"box": [args.get(key) for key in "xywh"], "reason": "See."}),
    lambda name, args: (name, json.dumps(json.dumps(args))),
    lambda name, args: (name, {"arguments": args}),
)
"""Ways to spoil the arguments of a call."""

TEXTS: tuple[Callable[[str, Any], str], ...] = (
    lambda name, args: f"<tool_call>{json.dumps({'name': name, 'arguments': args})}</tool_call>",
    lambda name, args: f"<tool_call>{json.dumps({'name': name, 'arguments': args})[:-2]}",
    lambda name, args: f"<think>Hm, {name}?</think>Action: {name}\nAction Input: {json.dumps(args)}",
    lambda name, args: f"Action: {name}({args!r})",
    lambda name, args: f"[TOOL_CALLS] [{json.dumps({'name': name, 'arguments': args})}]",
    lambda name, args: f"<function={name}>{json.dumps(args)}</function>",
    lambda name, args: f"```json\n{json.dumps({'tool': name, 'arguments': args})}\n```",
    lambda name, args: json.dumps({"tool": name, "arguments": args}),
)
"""Ways to write a call into the words of a reply."""

MOST_TEXT = 8000
"""Characters of a reply: no server says more than the tokens that it was allowed."""


@dataclass
class Drawn:
    """One server and its model."""

    rules: dict[Any, played.Rule] = field(default_factory=dict)
    spoil: Spoil | None = None
    text: Callable[[str, Any], str] | None = None
    sight: str = "eyes"
    """What it says of the test image: "eyes", "blind", or "other" for something else."""

    @classmethod
    def by(cls, dice: random.Random) -> Drawn:
        """A server by dice."""
        names = dice.sample(list(RULES), dice.choice([0, 0, 1, 1, 2]))
        return cls(
            {name: RULES[name](dice) for name in names},
            dice.choice([None, None, None, *SPOILS]),
            dice.choice([None, None, None, None, *TEXTS]),
            dice.choice(["eyes", "eyes", "eyes", "eyes", "blind", "other"]),
        )

    def refusal(self, request: dict[str, Any]) -> server.Served | None:
        """The answer of a server that does not take the request; None where it does."""
        answers = (rule(request) for rule in self.rules.values())
        return next((answer for answer in answers if answer is not None), None)

    def seen(self, request: dict[str, Any], run_id: str, dice: random.Random) -> server.Served | None:
        """The reply to the check of its sight; None to any other request."""
        if QUESTION not in server.text_of(request):
            return None
        if self.sight == "eyes":
            shown, numbers = server.images_of(request), [drawn_number(run_id, n) for n in range(4)]
            return server.say(next((n for n in numbers if number_image(n) in shown), "Nothing is there."))
        if self.sight == "blind":
            return server.say(dice.choice(["1234", "I cannot see any image.", "It is pink."]))
        return dice.choice([server.say(""), server.refused("No."), server.calls(("zoom", {"x": 1}))])

    def written(self, reply: server.Served, request: dict[str, Any]) -> server.Served:
        """A reply with its calls as this model writes them; in words where it was offered no tools."""
        message = reply.body["choices"][0]["message"] if isinstance(reply.body, dict) else {}
        made = [call["function"] for call in message.get("tool_calls") or []]
        if not made:
            return reply
        calls = [self._spoiled(call["name"], call["arguments"]) for call in made]
        text = self.text or (None if request.get("tools") else TEXTS[-1])
        if text is None:
            return replace(server.calls(*calls), headers=reply.headers)
        return server.say("\n".join(text(*call) for call in calls)[:MOST_TEXT])

    def _spoiled(self, name: str, arguments: str) -> tuple[str, Any]:
        try:
            args = json.loads(arguments)
        except (ValueError, RecursionError):
            return name, arguments
        return self.spoil(name, args) if self.spoil is not None and isinstance(args, dict) else (name, args)
