"""Takes away what a model thought aloud: a draft answer in it is no answer.

Models mark their thoughts in many ways, and servers pass the marks on, halve them, or lose the opening one.
Text before a lone closing mark is thought; so is all text after an opening mark that is never closed.
"""

from __future__ import annotations

import re

_NAMES = (
    r"think(?:ing)?|thoughts?|reason(?:ing)?|reflect(?:ion)?|scratch_?pad|analysis|monologue|inner_monologue"
    r"|rationale|deliberation|chain_of_thought|cot|brainstorm|planning|internal|ant_?thinking"
    r"|self_?reflection"
    r"|seed:think|seed:cot_budget_reflect|unused94"
)
_OPEN = re.compile(
    rf"""<(?:{_NAMES})(?:\s[^<>]*)?>          # <think>, <seed:think>
    |&lt;(?:{_NAMES})&gt;
    |◁think▷
    |\[(?:THINK|THINKING|REASONING)\]         # Magistral
    |<\|(?:begin_of_thought|START_THINKING|think|thinking|thought|reasoning)\|>
    |<\|channel\|>\s*(?:analysis|commentary)\b[^<]*(?:<\|message\|>)?   # gpt-oss
    |<details\s[^<>]*type="reasoning"[^<>]*>
    |```\s*(?:thinking|think|reasoning|thought)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_CLOSE = re.compile(
    rf"""</(?:{_NAMES})\s*>
    |&lt;/(?:{_NAMES})&gt;
    |◁/think▷
    |\[/(?:THINK|THINKING|REASONING)\]
    |<unused95>
    |<\|(?:end_of_thought|END_THINKING|/think|/thinking|end_thinking|/thought|/reasoning)\|>
    |<\|channel\|>\s*final\b[^<]*(?:<\|message\|>)?
    |</details>
    |```""",
    re.IGNORECASE | re.VERBOSE,
)
_ENDINGS = {"```": "```", "<details": "</details>"}
"""Marks that also stand where nothing is thought: the second is an end only after the first."""
_HARMONY = re.compile(r"^\s*analysis(?=\W|[A-Z]).*assistant\s*final(?:\s*:)?", re.DOTALL)
"""gpt-oss where the server dropped the marks themselves: "analysisWe need …assistantfinalB"."""
_HEADED = re.compile(
    r"^\W*(?:here is my thought process|thought process)\W.*?(?:here is my response|response)\s*:",
    re.I | re.S,
)
_LEFTOVERS = re.compile(
    r"<\|(?:start|end|return|message|begin_of_solution|end_of_solution|START_RESPONSE|END_RESPONSE"
    r"|begin_of_box"
    r"|end_of_box|im_end|im_start|eot_id|endoftext)\|>(?:assistant\b)?|</?s>|<eos>|<end_of_turn>",
    re.IGNORECASE,
)


def without_reasoning(text: str) -> str:
    """The text that a reply is meant to say; empty where it never came to that."""
    text = _HEADED.sub("", _HARMONY.sub("", text))
    kept: list[str] = []
    place, inside, ending = 0, False, ""
    for start, end, opens, mark in _marks(text):
        if start < place or (not opens and mark in _ENDINGS.values() and not (inside and mark == ending)):
            continue
        if not inside:
            kept.append(text[place:start])
            if not opens:
                kept.clear()
        if opens and not inside:
            ending = next((last for first, last in _ENDINGS.items() if mark.startswith(first)), "")
        inside, place = opens, end
    if not inside:
        kept.append(text[place:])
    return _LEFTOVERS.sub("", "".join(kept))


def _marks(text: str) -> list[tuple[int, int, bool, str]]:
    """(start, end, whether it opens, the mark) of each mark, in order; of two at a place the longer."""
    opening = [(m.start(), m.end(), True, m[0].lower()) for m in _OPEN.finditer(text)]
    closing = [(m.start(), m.end(), False, m[0].lower()) for m in _CLOSE.finditer(text)]
    return sorted(opening + closing, key=lambda mark: (mark[0], -mark[1]))
