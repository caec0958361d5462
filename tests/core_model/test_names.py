"""Names of files that can be shown and used again."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from core_model.errors import printable
from core_model.files import MOST_BYTES, safe_name

FILE_NAMES = st.binary(min_size=1, max_size=255).map(os.fsdecode)


@given(FILE_NAMES, FILE_NAMES)
def test_safe_names_can_be_written_are_short_and_stay_apart(one: str, other: str) -> None:
    name = safe_name(one)
    assert len(name.encode()) <= MOST_BYTES
    assert name.isprintable() or not any(ord(letter) < 32 or ord(letter) == 127 for letter in name)
    assert (name == safe_name(other)) == (one == other)


@given(st.text(min_size=1, max_size=40).filter(str.isprintable))
def test_a_name_that_can_be_printed_stays_as_it_is(name: str) -> None:
    assert safe_name(name) == name == printable(name)


def test_a_bare_byte_does_not_become_another_files_name() -> None:
    assert printable("caf\udce9") == "caf%E9"
    assert safe_name("caf\udce9") != safe_name("caf%E9") == "caf%E9"
