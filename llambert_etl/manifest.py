"""The Manifest: what a step did, kept with what it made and printed as the last line of its output."""

from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError, model_validator

from llambert_etl.errors import DataError
from llambert_etl.partition import Partition


class Facts(BaseModel):
    """What a step tells others. What was not set is not written, and what another version wrote is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def of(cls, manifest: object) -> Self:
        """Read them from a manifest, or from its JSON as Airflow keeps it. Raise DataError for one that is not told."""
        told = manifest.model_dump() if isinstance(manifest, Manifest) else manifest
        step, facts = (told.get("step"), told.get("facts")) if isinstance(told, dict) else (None, None)
        try:
            return cls.model_validate(facts or {})
        except ValidationError as error:
            missing = ", ".join(f"{each['loc'][0]} ({each['msg']})" for each in error.errors())
            raise DataError(f"the manifest of {step!r} does not tell {missing}; run that step again") from error

    def told(self) -> dict[str, JsonValue]:
        return self.model_dump(mode="json", exclude_unset=True)


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
    facts: Annotated[
        dict[str, JsonValue], BeforeValidator(lambda given: given.told() if isinstance(given, Facts) else given)
    ] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _rows_add_up(self) -> Self:
        outcomes = {name: count for name, count in self.rows.items() if name != "read"}
        if self.rows and self.rows.get("read") != sum(outcomes.values()):
            raise DataError(
                f"{self.step} {self.task} {self.partition}: {self.rows.get('read')} rows read but accounted for are "
                f"{outcomes}: a row vanished or was counted twice, nothing was committed"
            )
        return self

    def telling(self, facts: Facts) -> Self:
        """Return a copy that tells these facts too."""
        return self.model_copy(update={"facts": self.facts | facts.told()})
