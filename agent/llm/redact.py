"""Takes secret keys out of whatever is written down or shown.

A server may echo a key in an error or even in a reply. Nothing that came from one is kept or printed before
every secret of the environment, and everything that has the form of a key, is taken out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

INSTEAD = "[secret]"

_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH", re.IGNORECASE)
_FORMS = re.compile(r"\b(?:sk|pk|rk)-[\w-]{16,}|\bAIza[\w-]{30,}|\bhf_\w{20,}|\bBearer\s+[\w.~+/=-]{8,}")
_LEAST = 8
"""Shorter values are no keys, and taking them out would riddle the text."""
_KEYLIKE = re.compile(r"[\w*.+/=-]{20,}")


class Redactor:
    """Knows the secrets of the environment as it was when it was made."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        variables = (os.environ if environment is None else environment).items()
        secrets = {v.strip() for name, v in variables if _NAMES.search(name) and len(v.strip()) >= _LEAST}
        # The longest first, so that a key that holds another leaves nothing behind.
        parts = [re.escape(secret) for secret in sorted(secrets, key=lambda secret: (-len(secret), secret))]
        self._secrets = re.compile("|".join(parts)) if parts else None

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
        """The words of a provider for an error: one line, with nothing left that could be part of a key."""
        line = " ".join(_KEYLIKE.sub(INSTEAD, self.text(text)).split())
        return line if len(line) <= most else line[:most].rstrip() + " …"
