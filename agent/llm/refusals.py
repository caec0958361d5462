"""Reads why a server turned a request down, from its status and its words, and with which figures.

Every server says it in its own words, so the words are looked for, wherever in the answer they stand: an
error object, an error inside an error, a plain line, a page. A pure function of both: nothing is sent.

    refusal_of(400, "At most 1 image(s) may be provided in one request.")
    Refusal(kind="image_limit", limit=1)

Kinds that `MENDABLE` lists may go through in another form (fewer images, actions in words); such a request is
not sent again as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from core_model.errors import ProviderError

Kind = Literal[
    "no_tools",
    "no_tool_choice",
    "image_limit",
    "no_images",
    "too_large",
    "context_too_long",
    "role_order",
    "rate_request_too_large",
    "loading",
    "auth",
    "other",
]
"""What a server cannot do or take. no_tools: call tools. no_tool_choice: be made to call a certain one.
image_limit: so many images in a request. no_images: any. too_large: so many bytes, or an image of that size.
context_too_long: so many tokens. role_order: the order of the speakers. rate_request_too_large: one request
of more tokens than a minute allows. loading: anything yet. auth: the key. other: none of these."""

MENDABLE: frozenset[str] = frozenset(
    ("no_tools", "no_tool_choice", "image_limit", "too_large", "context_too_long", "role_order")
) | {"rate_request_too_large"}
_MOST_TEXT = 20_000


@dataclass(frozen=True)
class Refusal:
    """Why a request was turned down."""

    kind: Kind
    limit: int | None = None
    """The most that the server takes: images, tokens, or bytes, as the kind has it; None where it does not
    say."""
    asked: int | None = None
    """How many tokens the server counted in the request; None where it does not say."""

    @property
    def mendable(self) -> bool:
        """Whether the request may go through in another form."""
        return self.kind in MENDABLE


OTHER = Refusal("other")


class RequestRefused(ProviderError):
    """A request that its server turned down for its form; in another form it may go through."""

    def __init__(self, what: str, refusal: Refusal, *, where: object = None, fix: str | None = None) -> None:
        super().__init__(what, where=where, fix=fix)
        self.refusal = refusal


_COUNT_WORDS = {"one": 1, "single": 1, "two": 2, "three": 3, "four": 4, "five": 5}
_NOT_A_SIZE = r"(?!\s*(?:[kmg]i?b\b|bytes?|px|pixels?|tokens?))"
_N = rf"(?P<n>\d[\d,_]*(?:\.\d+)?k?|{'|'.join(_COUNT_WORDS)})\b{_NOT_A_SIZE}"
_TOKENS = r"(?P<n>\d[\d,_]*k?)\b"
_BYTES = r"(?P<n>\d[\d,_]*(?:\.\d+)?)\s*(?P<unit>[kmg]i?b\b|megabytes|bytes)"
_IMAGE = r"(?:images?(?:\(s\))?|pictures?|photos?|image_urls?|visual inputs?|multi-?modal (?:inputs?|items?))"
_TOOL = r"(?:tools?\b|tool.?(?:use|call\w*)|functions?\b|function.?call\w*)"
_IS = r"\W{0,3}(?:\w+ ){0,3}(?:is|are)"
_NOT_DO = r"(?:not|n't|never) (?:yet )?"

_LOADING = (
    r"loading model",
    r"model(?: \S+)? is (?:still |currently )?(?:loading|being loaded|warming)",
    r"still loading|currently loading|warming up",
    r"model (?:is )?not ready",
)
_RATE = (
    r"request (?:is )?too large for",
    r"tokens per min|\btpm\b",
    r"larger than the (?:rate )?limit",
    r"exceed\S* .{0,60}per.minute",
)
_RATE_FIGURES = (
    r"limit:?\s*(?P<n>\d[\d,_]*).{0,60}?requested:?\s*(?P<a>\d[\d,_]*)",
    r"rate limit of (?P<n>\d[\d,_]*)",
    r"limit(?: of| is|:)?\s*(?P<n>\d[\d,_]*)",
)
_CONTEXT = (
    r"context.{0,5}length|context.{0,3}(?:size|window|limit)|maximum (?:prompt|model) length",
    r"(?:input|prompt|request) (?:is )?too long|longer than the (?:model|maximum)",
    r"input tokens? exceed|token count.{0,40}exceed|exceeds? the available context",
    r"exceed_context_size|n_ctx\b|max_model_len|max_new_tokens|string_above_max_length",
    r"too many tokens|must have less than \d+ tokens|tokens? to keep from the initial prompt",
    r"max_tokens.{0,60}too large|reduce the length of the (?:messages|prompt|input)",
    r"exceeds? (?:the )?(?:maximum|max|limit).{0,30}\btokens?",
    r"\btokens?\b.{0,40}exceeds? (?:the )?(?:maximum|max|limit|available)",
    r"maximum (?:sequence|input|total|allowed) (?:length|tokens)",
)
_CONTEXT_LIMITS = (
    rf"(?:>|<=)\s*{_TOKENS}(?:\s*maximum)?",
    rf"n_ctx\W+{_TOKENS}",
    rf"{_TOKENS}\s*maximum context length",
    r"(?:exceeds?|over|above) the (?:max(?:imum)?|configured|allowed|available|context)"
    rf"[^\d]{{0,60}}{_TOKENS}",
    rf"(?:max(?:imum)?|context|model|prompt|sequence|input)[ _-]?(?:(?:context|model|prompt|input|allowed) )?"
    rf"(?:len(?:gth)?|size|window|limit)\b(?! by\b)[^\d]{{0,30}}{_TOKENS}",
    rf"(?:max_model_len|max_total_tokens)[^\d]{{0,30}}{_TOKENS}",
    rf"(?:less|fewer) than {_TOKENS}\s*tokens",
    rf"limit(?: of| is|:)?\s*{_TOKENS}",
)
_CONTEXT_ASKED = (
    r"(?:resulted in|you requested(?: about)?|requested a total of|(?:prompt|request) contains|given:?"
    r"|n_prompt_tokens\W+|total length|prompt \(length|the input \(|input token count \(|request \("
    r"|too long:|request has|passed)\s*(?P<n>\d[\d,_]*)",
)
_SIZE = (
    r"(?:entity|payload|request|content).?too.?large|body.{0,40}too.?large|request size",
    r"(?:exceed|larger|greater|bigger|limit|maximum|over).{0,60}\d\s*(?:[kmg]i?b\b|bytes|megabytes|px\b|pixels)",
    r"(?:image|file|request|body|media).{0,80}too.?(?:large|big)",
    r"(?:image|file|request|body|media).{0,80}exceed\S* .{0,40}(?:size|dimension|pixel|bytes)",
    r"image dimensions|dimensions? exceed|length limit exceeded|out of memory|maximum allowed size",
)
_IMAGE_LIMITS = (
    r"set [`'\"]?image=(?P<n>\d+)",
    r"(?:at most|up to|no more than|not more than|max(?:imum)?(?: number)?(?: of| is|:)?|limit(?:ed)?(?: of"
    r"| to| is|:)?|limit|only|supports?|accepts?|allows?|takes?|handles?|permits?)\s*(?:a |an |only )*"
    rf"{_N}\s*(?:\w+ ){{0,2}}{_IMAGE}",
    rf"(?P<below>fewer than|less than)\s*{_N}\s*(?:\w+ ){{0,2}}{_IMAGE}",
    rf"{_IMAGE}.{{0,80}}?(?:maximum|max\b|limit\b|at most|up to|no more than|only)[^\d]{{0,40}}?{_N}",
    rf"{_IMAGE}[^\d]{{0,40}}(?:\d+\s*)?(?:exceeds?|exceeded|>|is (?:greater|more) than|over)[^\d]{{0,40}}"
    rf"{_N}",
    rf"(?:max(?:imum)?|limit)[^\d]{{0,30}}{_IMAGE}[^\d]{{0,40}}?{_N}",
    r"limit.mm.(?:data.)?per.(?:prompt|request)[^\d]{0,40}(?P<n>\d+)",
)
_ONE_IMAGE = (r"(?:single|one) image", r"multiple images", r"more than (?:one|1) image", r"multi-?image")
_MANY_IMAGES = (
    rf"too many {_IMAGE}|number of {_IMAGE}|{_IMAGE} (?:count|limit)",
    r"limit.mm.(?:data.)?per",
)
_NO_IMAGES = (
    r"at most 0 image|image=0\b|no vision|text.only|only supports? text|mmproj",
    r"unknown variant.{0,5}image_url|(?:invalid|unsupported) content type.{0,40}image",
    rf"{_NOT_DO}(?:support|accept|take|allow|handle|process)\S* (?:\w+\s){{0,2}}"
    r"(?:images?|vision|multi-?modal|pictures|image_url)",
    r"support image input|not a (?:vision|multi-?modal|visual)|data required for image input",
    rf"(?:images?|vision|image_url|image inputs?|multi-?modal\w*){_IS} not (?:\w+ )?"
    r"(?:supported|allowed|enabled|accepted|available)",
    r"content.{0,20}must be a string|image_url.{0,40}(?:unsupported|not supported|is invalid)",
)
_ROLE = (
    r"unexpected role|expected last role|after role|system role|message_order|role must be",
    r"roles? must alternate|alternate (?:between )?\S?user|consecutive.{0,30}(?:messages|roles|user)",
    r"role.{0,12}(?:tool|system|assistant|function)\S* (?:is |was )?(?:not |un|in)"
    r"(?:supported|valid|allowed|expected)",
    r"only.{0,40}\broles\b|(?:unknown|invalid|unsupported) (?:message )?role",
    r"function (?:response|call) turn|same number of function calls|start with a user|last message",
    r"must be followed by|must be a response to a prec|follow.{0,20}tool message",
    r"user message.{0,40}after.{0,20}tool|tool.{0,40}followed by.{0,20}user",
    r"image urls? .{0,30}only allowed for|only (?:allowed|supported) (?:for|in|with).{0,30}user",
)
_CHOICE = (r"tool.?choice",)
_AUTO_CHOICE = (r"auto.{0,20}tool.?choice requires", r"enable-auto-tool-choice", r"tool-call-parser")
_NO_TOOLS = (
    rf"{_NOT_DO}(?:support|accept|allow|handle|take|implement|have)\S* (?:\w+\s){{0,2}}\S?{_TOOL}",
    rf"support(?:s|ing)? tool|(?:no|without) {_TOOL} support|unsupported {_TOOL}|use tools? with",
    rf"{_TOOL}{_IS}(?: \w+){{0,2}} (?:un(?:supported|available)|disabled)",
    rf"{_TOOL}\W{{0,3}}(?:\w+ ){{0,3}}(?:is|are)?\s?(?:not|n't)(?: \w+){{0,2}} "
    r"(?:supported|enabled|available|allowed|implemented|permitted)",
    r"(?:unsupported|unknown|unrecognized|unexpected|invalid|extra|disallowed).{0,60}\btools\b",
    r"tools?\W.{0,60}(?:extra inputs?|extra_forbidden|not permitted)",
    r"tools param|requires? --jinja|tool.?(?:call\w* )?parser|tool_use_failed|failed to call a function",
)

_SPACES = re.compile(r"\s+")


def refusal_of(status: int | None, text: str) -> Refusal:
    """Why a server answered with this status (None: none, as in the middle of a stream) and this body."""
    words = _words(text)
    if status in (401, 403):
        return Refusal("auth")
    if _has(_LOADING, words) and (status is None or status >= 400):
        return Refusal("loading")
    if status is None or status < 300 or status in _ABOUT_THE_REQUEST or status >= 500:
        return _about_the_request(status, words)
    return OTHER


_ABOUT_THE_REQUEST = (400, 404, 405, 406, 409, 413, 415, 422, 424, 429)
"""Besides errors of the server itself: small servers raise those at whatever their templates do not take."""


def _about_the_request(status: int | None, words: str) -> Refusal:
    if status in (413, 429, None) and _has(_RATE, words):
        rate = _rate(words)
        if rate is not None:
            return rate
    if status == 429:
        return OTHER
    for kind in (_roles, _no_images, _tools, _context, _size, _images):
        refusal = kind(words)
        if refusal is not None:
            return refusal
    return Refusal("too_large") if status == 413 else OTHER


def _rate(words: str) -> Refusal | None:
    """One request larger than the limit of a minute; None where only the minute is used up."""
    for pattern in _RATE_FIGURES:
        match = re.search(pattern, words)
        if match is None:
            continue
        limit, asked = _number(match["n"]), _number(match.groupdict().get("a"))
        if asked is None and "too large" not in words:
            return None
        return (
            None if asked is not None and asked <= limit else Refusal("rate_request_too_large", limit, asked)
        )
    return Refusal("rate_request_too_large") if "too large" in words else None


def _roles(words: str) -> Refusal | None:
    return Refusal("role_order") if _has(_ROLE, words) else None


def _no_images(words: str) -> Refusal | None:
    return Refusal("no_images") if _has(_NO_IMAGES, words) and not _has(_ONE_IMAGE, words) else None


def _tools(words: str) -> Refusal | None:
    if _has(_AUTO_CHOICE, words) or (_has(_NO_TOOLS, words) and not _has(_CHOICE, words)):
        return Refusal("no_tools")
    return Refusal("no_tool_choice") if _has(_CHOICE, words) else None


def _context(words: str) -> Refusal | None:
    if not _has(_CONTEXT, words):
        return None
    asked = _first_number(_CONTEXT_ASKED, words)
    limit = _first_number(_CONTEXT_LIMITS, words)
    return Refusal("context_too_long", limit if limit and limit >= 64 else None, asked)


def _size(words: str) -> Refusal | None:
    if not _has(_SIZE, words):
        return None
    sizes = [_bytes(match) for match in re.finditer(_BYTES, words)]
    return Refusal("too_large", min(sizes) if sizes else None)


def _images(words: str) -> Refusal | None:
    for pattern in _IMAGE_LIMITS:
        match = re.search(pattern, words)
        if match is not None:
            limit = _number(match["n"]) - ("below" in match.groupdict())
            return Refusal("image_limit", limit) if limit > 0 else Refusal("no_images")
    if _has(_ONE_IMAGE, words):
        return Refusal("image_limit", 1)
    return Refusal("image_limit") if _has(_MANY_IMAGES, words) else None


def _words(text: str) -> str:
    """The words of an answer in small letters, on one line, without the signs of errors inside errors."""
    plain = text[:_MOST_TEXT].replace("\\n", " ").replace('\\"', '"').replace("\\", "")
    return _SPACES.sub(" ", plain).casefold()


def _has(patterns: tuple[str, ...], words: str) -> bool:
    return any(re.search(pattern, words) for pattern in patterns)


def _first_number(patterns: tuple[str, ...], words: str) -> int | None:
    for pattern in patterns:
        match = re.search(pattern, words)
        if match is not None:
            return _number(match["n"])
    return None


def _number(text: str | None) -> int:
    if text in _COUNT_WORDS:
        return _COUNT_WORDS[text]
    digits = (text or "0").replace(",", "").replace("_", "")
    return int(float(digits.removesuffix("k")) * (1000 if digits.endswith("k") else 1))


def _bytes(match: re.Match[str]) -> int:
    scale = {"k": 10, "m": 20, "g": 30, "b": 0}[match["unit"][0]]
    return int(float(match["n"].replace(",", "").replace("_", "")) * (1 << scale))
