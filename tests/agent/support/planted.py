"""A patient planted in slides, and a scripted chat model that reports on them."""

from __future__ import annotations

from typing import Any

import multi_files as many
from chat_server import Served, calls

NEEDLES = (many.PATIENT, many.PLANTED, *many.PLANTED.split("_")[:2], many.PATIENT.replace(" ", "^"))
"""What would name the patient."""


def script(request: dict[str, Any], number: int) -> Served:
    """One look, then an answer; the second pathologist agrees."""
    names = {tool["function"]["name"] for tool in request["tools"]}
    if "verdict" in names:
        return calls(("verdict", {"choice": "pink", "confidence": 0.8}))
    if names == {"answer"} or any(message["role"] == "assistant" for message in request["messages"]):
        claim = {"text": "Pink and purple tissue.", "steps": [1], "section": "microscopic description"}
        given = {"choice": "pink", "text": "Pink.", "confidence": 0.8, "claims": [claim]}
        return calls(("answer", given))
    return calls(("zoom", {"x": 100, "y": 100, "w": 200, "h": 200, "mpp": 0, "reason": "Closer."}))
