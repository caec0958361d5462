"""Whether a chat model sees at all: before its first look it is shown a drawn number, and asked which it is.

Some servers drop the images of a request and answer all the same, out of the words alone. Such a model cannot
know the number. One that can is remembered, by its name and server, and is not asked again; one that says
another number, or none, is refused. Where the reply is no answer to the question nothing is known, and the
answer of the run says so.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.answers.reasoning import without_reasoning
from agent.chat.reading import parse_reply
from agent.chat.talk import ask_chat_model
from agent.llm.client import OverBudget
from agent.run.records import Answer
from agent.servers.blocks import jpeg_block, text_block
from core_model.errors import GiantError, ProviderError
from core_model.features.store import cache_folder
from core_model.files import write_text

if TYPE_CHECKING:
    from agent.graph.state import AgentContext
    from agent.llm.client import Reply
    from agent.run.journal import Journal
    from agent.servers.manner import Manner

SIGHT = "sight"
"""Kind of the journal's entries: each check with its outcome."""
SYSTEM = "You look at one image and say what is drawn in it."
QUESTION = "Which number is drawn in this image? Reply with its digits and nothing else."
UNTESTED = "Whether the model sees images could not be tested: it did not say which number it was shown"
UNPAID = "Whether the model sees images was not tested: the spending limit has no room for it"
_DIGITS = "2345679"
_MOST_WORDS = 80
_log = logging.getLogger(__name__)


def check_sight(context: AgentContext) -> None:
    """Find out whether the run's chat model sees, unless that is known.

    Raises `ProviderError` if it does not, and where no reply comes. Where there is no money for the question,
    the answer says so.
    """
    journal = context.journal
    outcomes = [outcome["sees"] for outcome in journal.values(SIGHT)]
    if any(sees is not False for sees in outcomes):
        return
    place = _memory(context)
    if place is not None and place.is_file():
        journal.put(SIGHT, f"{len(outcomes):03d}", {"sees": True, "remembered": True})
        return
    number = drawn_number(context.run_id, len(outcomes))
    try:
        reply = _asked(context, number, len(outcomes))
    except OverBudget:
        journal.put(SIGHT, f"{len(outcomes):03d}", {"sees": None, "remembered": False, "unpaid": True})
        return
    sees = read_number(reply, number)
    journal.put(SIGHT, f"{len(outcomes):03d}", {"sees": sees, "remembered": False, "number": number})
    if sees is False:
        words = " ".join(without_reasoning(reply.text).split())[:_MOST_WORDS]
        raise ProviderError(
            f"it does not see images: shown the number {number}, it said “{words}”",
            where=context.name,
            fix="Serve a model that takes images, together with its image processor; "
            "--no-sight-check goes on all the same",
        )
    if sees and place is not None:
        _remember(place, context.name)


def with_sight(answer: Answer, journal: Journal) -> Answer:
    """The answer, which says where it is not known whether the model sees."""
    outcomes = list(journal.values(SIGHT))
    if not outcomes or outcomes[-1]["sees"] is not None:
        return answer
    why = UNPAID if outcomes[-1].get("unpaid") else UNTESTED
    reason = f"{answer.reason.rstrip('. ')}. {why}." if answer.reason else f"{why}."
    return answer.model_copy(update={"reason": reason})


def drawn_number(run_id: str, attempt: int) -> str:
    """Four digits that nobody can guess and every repetition of the check draws again."""
    digest = hashlib.sha256(f"{run_id}:{attempt}".encode()).digest()
    return "".join(_DIGITS[byte % len(_DIGITS)] for byte in digest[:4])


def number_image(number: str) -> bytes:
    """A JPEG of 448 x 224 px with the number in it."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (448, 224), (255, 255, 255))
    ImageDraw.Draw(image).text((224, 112), number, fill=(0, 0, 0), font_size=130, anchor="mm")
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=92)
    return file.getvalue()


def read_number(reply: Reply, number: str) -> bool | None:
    """Whether a reply says the number; None where it is no answer to the question at all."""
    words = without_reasoning(reply.text)
    if number in re.sub(r"(?<=\d)[\s,.-]+(?=\d)", "", words):
        return True
    says_nothing = not words.strip() or reply.cut or reply.refusal is not None or bool(reply.garbled)
    return None if says_nothing or parse_reply(reply).calls else False


def _asked(context: AgentContext, number: str, attempt: int) -> Reply:
    from langchain_core.messages import HumanMessage, SystemMessage

    content: Any = [text_block(QUESTION), jpeg_block(number_image(number))]

    def write(manner: Manner) -> list[Any]:
        return [SystemMessage(SYSTEM), HumanMessage(content)]

    return ask_chat_model(context, f"000-0{attempt:02d}-sight", write, [], [], force=None, last=True)


def _memory(context: AgentContext) -> Path | None:
    """The file that remembers that this model of this server sees; None where the server is not known."""
    line = context.chat.line if context.chat is not None else None
    model = getattr(line, "model", None)
    names = ("openai_api_base", "anthropic_api_url", "base_url")
    server = next((str(value) for name in names if (value := getattr(model, name, None))), None)
    if model is None:
        return None
    known = json.dumps([context.name, server])
    return cache_folder() / "sight" / f"{hashlib.sha256(known.encode()).hexdigest()[:24]}.json"


def _remember(place: Path, name: str) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_text(place, json.dumps({"version": 1, "model": name, "sees": True}) + "\n")
    except (OSError, GiantError) as error:
        _log.warning("%s: that it sees images cannot be remembered (%s).", name, error)
