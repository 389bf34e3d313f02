"""Export: where published labels go. Each kind is a class and a line of the table at the end."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_serializer, model_validator

from llambert_etl.config.connections import ConnectionName, TablePath
from llambert_etl.config.fields import Part
from llambert_etl.config.kinds import Kinds


class Export(Part):
    """A place for labels. `written` shows how a task file writes it."""

    written: ClassVar[str]

    @property
    def name(self) -> str:
        """What manifests call the place."""
        raise NotImplementedError


class Parquet(Export):
    """Plain Parquet beside the lake, written as the word `parquet`."""

    written = "parquet"

    @property
    def name(self) -> str:
        return self.written

    @model_validator(mode="before")
    @classmethod
    def _of_a_word(cls, value: object) -> object:
        return {} if value == cls.written else value

    @model_serializer
    def _as_a_word(self) -> Literal["parquet"]:
        return "parquet"


class Warehouse(Export):
    """A table to which labels are exported, made where it is absent."""

    written = "{connection: <name>, table: <table>}"

    connection: ConnectionName = Field(description="the name in `LLAMBERT_CONNECTIONS__<NAME>`")
    table: TablePath = Field(description="`table` or `schema.table`, spelt as the database keeps it")

    @property
    def name(self) -> str:
        return f"{self.connection}/{self.table}"


EXPORTS: Final[dict[str, type[Export]]] = {
    "connection": Warehouse,
    "parquet": Parquet,
}


def _as_list(value: object) -> object:
    found = [] if value == "none" else value if isinstance(value, list) else [value]
    if not all(isinstance(each, Export | Mapping) or (isinstance(each, str) and each in EXPORTS) for each in found):
        kinds = ", ".join(sorted(kind.written for kind in EXPORTS.values()))
        raise ValueError(
            f"must be none, {kinds} or a list of such; the connection's URI belongs in LLAMBERT_CONNECTIONS__<name>"
        )
    return found


def _each_once(value: list[Export]) -> list[Export]:
    if len(set(value)) < len(value):
        raise ValueError("names one place twice")
    return value


Exports = Annotated[list[Annotated[Export, Kinds(EXPORTS)]], BeforeValidator(_as_list), AfterValidator(_each_once)]
