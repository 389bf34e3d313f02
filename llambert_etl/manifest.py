"""The Manifest: what a step did, kept with what it made and printed as the last line of its output."""

import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from llambert_etl.errors import DataError
from llambert_etl.partition import Partition


class Manifest(BaseModel):
    """An account of one step. `rows` adds up: `read` equals the sum of the other counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str
    task: str
    partition: Partition
    run: str
    rows: dict[str, int] = Field(default_factory=dict)
    reasons: dict[str, int] = Field(default_factory=dict)
    versions_read: dict[str, int] = Field(default_factory=dict)
    versions_written: dict[str, int] = Field(default_factory=dict)
    config_hash: str = ""
    seconds: float = 0.0
    tokens: int = 0
    cost: float = 0.0
    facts: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _rows_add_up(self) -> Self:
        outcomes = {name: count for name, count in self.rows.items() if name != "read"}
        if self.rows and self.rows.get("read") != sum(outcomes.values()):
            raise DataError(
                f"{self.step} {self.task} {self.partition}: {self.rows.get('read')} rows read but accounted for are "
                f"{outcomes}: a row vanished or was counted twice, nothing was committed"
            )
        return self

    def finished(self, started: datetime.datetime, **changes: object) -> Self:
        """Return a copy with `changes` and the seconds since `started`."""
        seconds = (datetime.datetime.now(datetime.UTC) - started).total_seconds()
        return type(self).model_validate({**self.model_dump(), **changes, "seconds": round(seconds, 3)})
