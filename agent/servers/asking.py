"""Asks a chat model, and where its server refuses the form of a request asks again in a form that it takes.

Every refusal is kept in the journal under the request that met it, with the manner that came of it. So a run
that is resumed or replayed goes the same way, and later turns begin with what the earlier ones found out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from agent.llm.refusals import Refusal, RequestRefused
from agent.llm.request import ChatRequest
from agent.run.journal import NOTICE
from agent.servers.blocks import images_in
from agent.servers.forms import Labels, formed, image_bytes
from agent.servers.manner import Manner, difference, first_manner
from core_model.errors import ProviderError

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from agent.llm.client import ChatClient, Reply
    from agent.run.journal import Journal

Write = Callable[[Manner], "Sequence[BaseMessage]"]
"""Writes the messages of a call; it leaves out what the manner has no room for."""
_ENOUGH = 0.8
"""Share of its size to which a request is made smaller where the server names no limit."""
_KINDS = ("survey", "decide", "answer", "repair", "review", "review-repair")
"""Kinds of turns in the order in which those of one number come."""
_SIZES = {"too_large", "context_too_long", "rate_request_too_large"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asking:
    """One call that is to be made, in whatever manner its server takes."""

    chat: ChatClient
    journal: Journal
    run_id: str
    turn: str
    write: Write
    tools: Sequence[dict[str, Any]]
    force: str | None
    last: bool
    labels: Labels

    def reply(self) -> Reply:
        """The reply. Raises `OverBudget`, and `ProviderError` where no form of the request gets through."""
        manner = manner_before(self.journal, self.turn, self.chat)
        while True:
            manner, request = self._fitting(manner)
            notice = self.journal.get(NOTICE, request.key(self.turn))
            if notice is not None:
                manner = Manner(**notice["manner"])
                continue
            try:
                return self.chat.ask(
                    self.journal,
                    self.run_id,
                    self.turn,
                    request.messages,
                    request.tools,
                    force=request.force,
                    last=self.last,
                )
            except RequestRefused as error:
                manner = self._noticed(manner, request, error)

    def _request(self, manner: Manner) -> ChatRequest:
        profile = self.chat.profile
        messages, tools, force = formed(
            self.write(manner), self.tools, self.force, manner, profile, self.labels
        )
        return ChatRequest(self.chat.name, profile, messages, tools, force)

    def _fitting(self, manner: Manner) -> tuple[Manner, ChatRequest]:
        """The request, made smaller until it is within what the model is known to take."""
        request, most = self._request(manner), self.chat.profile.max_input_tokens
        while most is not None and request.tokens_in > most:
            smaller = manner.smaller()
            if smaller is None:
                raise ProviderError(
                    f"a request of about {request.tokens_in:,} tokens is above the {most:,} that it takes",
                    where=self.chat.name,
                    fix="Ask a shorter question, allow fewer looks, or choose a model that takes more",
                )
            manner, request = smaller, self._request(smaller)
        return manner, request

    def _noticed(self, manner: Manner, request: ChatRequest, error: RequestRefused) -> Manner:
        """The manner after a refusal, kept and said. Raises the refusal where nothing is left to give up."""
        refusal = error.refusal
        if refusal.kind in _SIZES:
            changed = self._smaller(manner, request, refusal)
        else:
            changed = manner.after(refusal, len(images_in(request.messages)))
            while changed is not None and self._request(changed).digest == request.digest:
                changed = changed.after(refusal, len(images_in(request.messages)))
        if changed is None or self._request(changed).digest == request.digest:
            raise error
        said = f"{self.chat.name}: {difference(manner, changed)}."
        known = {
            "turn": self.turn,
            "number": len(self.journal.keys(NOTICE)),
            "refusal": asdict(refusal),
            "manner": changed.record(),
            "said": said,
        }
        self.journal.put(NOTICE, request.key(self.turn), known)
        _log.warning("%s", said)
        return changed

    def _smaller(self, manner: Manner, request: ChatRequest, refusal: Refusal) -> Manner | None:
        """The largest size that is small enough for what the server says; the least where none is."""
        measure = _bytes if refusal.kind == "too_large" else _tokens
        before = measure(request)
        share = _ENOUGH
        if refusal.limit:
            asked = refusal.asked if refusal.asked and refusal.asked > refusal.limit else None
            most = refusal.limit / asked * before if asked else refusal.limit
            share = min(_ENOUGH, most / before) if most > 0 else _ENOUGH
        smaller = manner.smaller()
        while smaller is not None and measure(self._request(smaller)) > share * before:
            next_smaller = smaller.smaller()
            if next_smaller is None:
                break
            smaller = next_smaller
        return smaller


def manner_before(journal: Journal, turn: str, chat: ChatClient) -> Manner:
    """The manner that the turns before this one ended in."""
    notices = [notice for notice in journal.values(NOTICE) if _order(notice["turn"]) < _order(turn)]
    if not notices:
        return first_manner(chat.profile)
    return Manner(**max(notices, key=lambda notice: int(notice["number"]))["manner"])


def _order(turn: str) -> tuple[str, int, str]:
    """What turns sort by: number and kind, since one that came to nothing leaves its number to the next."""
    number, _, kind = turn.partition("-")
    return number, _KINDS.index(kind) if kind in _KINDS else len(_KINDS), kind


def _tokens(request: ChatRequest) -> int:
    return request.tokens_in + request.profile.max_tokens


def _bytes(request: ChatRequest) -> int:
    return image_bytes(request.messages) + len(str(request.tools))
