"""Takes secret keys out of whatever is written down or shown.

A server may echo a key in an error or even in a reply. Nothing that came from one is kept or printed before
every secret of the environment, also where it is cut or masked, and everything that has the form of a key is
taken out. Nothing else is: a server's own hints (`--enable-auto-tool-choice`) and names of models stay.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from agent.llm.providers import PROVIDERS

INSTEAD = "[secret]"

_NAMES = re.compile(
    r"(?:^|_)(?:\w*KEY|TOKEN|SECRET|PASSW\w*|PASSPHRASE|CREDENTIALS?|AUTHORIZATION)(?:$|_)", re.IGNORECASE
)
_FORMS = re.compile(r"\b(?:sk|pk|rk)-[\w-]{16,}|\bAIza[\w-]{30,}|\bhf_\w{20,}|\bBearer\s+[\w.~+/=-]{8,}")
_LEAST = 8
"""Shorter values are no keys, and taking them out would riddle the text."""
_BEGINNING = 12
"""Characters of a key that are as good as the key, where a server quotes its beginning."""
_WORD = re.compile(r"[\w*.+/=-]{8,}")


SENT = tuple(name for provider in PROVIDERS.values() for name in provider.keys)
"""Variables whose values are sent to a server as keys."""


class Redactor:
    """Knows the secrets of the environment as it was when it was made."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        variables = list((os.environ if environment is None else environment).items())
        values = [value.strip() for name, value in variables if _NAMES.search(name)]
        secrets = {value for value in values if len(value) >= _LEAST and not value.startswith("/")}
        # The longest first, so that a key that holds another leaves nothing behind.
        ordered = sorted(secrets, key=lambda secret: (-len(secret), secret))
        self._secrets = re.compile("|".join(map(re.escape, ordered))) if ordered else None
        sent = [value.strip() for name, value in variables if name in SENT]
        self._beginnings = tuple(key[:_BEGINNING] for key in sent if len(key) >= _BEGINNING)

    def text(self, text: str) -> str:
        """The text without secrets."""
        if self._secrets is not None:
            text = self._secrets.sub(INSTEAD, text)
        return _FORMS.sub(INSTEAD, text)

    def value(self, value: Any) -> Any:
        """A JSON value without secrets, in keys as in values."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value

    def words(self, text: str, most: int = 200) -> str:
        """The words of a provider for an error: one line, without keys, nor keys that are cut or masked."""
        line = " ".join(_WORD.sub(self._word, self.text(text)).split())
        return line if len(line) <= most else line[:most].rstrip() + " …"

    def _word(self, found: re.Match[str]) -> str:
        word = found[0]
        masked = "**" in word and any(word.startswith(start[:2]) for start in self._beginnings)
        return INSTEAD if masked or word.startswith(self._beginnings) else word
