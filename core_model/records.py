"""The base of every record that crosses a boundary."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen record that refuses unknown fields, so that a file of another shape is not half read."""

    model_config = ConfigDict(frozen=True, extra="forbid")
