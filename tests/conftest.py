"""Fixtures that more than one package's tests need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["GIANT_SIGHT_CHECK"] = "off"  # scripted models do not see; the check has tests of its own


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real slides, tiles and goldens beside the checkout; required where `CI=true`, else optional."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{folder} is required in CI and is missing")
        pytest.skip(f"{folder} is not here")
    return folder
