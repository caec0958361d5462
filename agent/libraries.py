"""The libraries we call say much that a user of the command line need not read."""

from __future__ import annotations

import logging
import os


def quieten_libraries(quiet: bool) -> None:
    """Our warnings as plain lines on stderr; no chatter and no bars from libraries."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
    logging.basicConfig(level=logging.ERROR if quiet else logging.WARNING, format="%(message)s")
