"""Source: where documents come from. Each kind is a class and a line of the table at the end."""

from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from llambert_etl.config.connections import Column, ConnectionName, TablePath, holds_secret
from llambert_etl.config.fields import MOST, Part
from llambert_etl.config.kinds import Kinds


class Source(Part):
    """What every kind of source says of its documents."""

    id: str = Field(min_length=1, description="field or column of the id")
    text: str = Field(min_length=1, description="field or column of the text")
    max_chars: int = Field(default=100_000, gt=0, le=MOST, description="a longer text is refused as `text_too_long`")


class FileSource(Source):
    """With `uri`: documents from files. `{partition}` in `uri` becomes the day."""

    uri: str = Field(
        description="`s3://…`, `hf://datasets/…` or an absolute path, with `{partition}`; `*` and `?` match names"
    )

    @model_validator(mode="after")
    def _one_day_at_a_time(self) -> Self:
        if holds_secret(self.uri):
            raise ValueError(
                "uri must not be a database's, nor hold a password: set it as LLAMBERT_CONNECTIONS__<name> and write "
                "source: {connection: <name>, table: ..., day: ..., id: ..., text: ...}"
            )
        if "{partition}" not in self.uri:
            raise ValueError("uri must contain {partition}, so that a day can be ingested again by itself")
        return self


class TableSource(Source):
    """With `connection`: documents from a table or a view. `day` is the column whose UTC day is the partition."""

    connection: ConnectionName = Field(description="the name in `LLAMBERT_CONNECTIONS__<NAME>`")
    table: TablePath = Field(description="`table` or `schema.table`, spelt as the database keeps it")
    day: Column = Field(description="column of timestamps or dates")
    id: Column = Field(description="column of strings, integers, decimals without fraction or uuids")
    text: Column = Field(description="column of strings")


SOURCES: Final[dict[str, type[Source]]] = {
    "uri": FileSource,
    "connection": TableSource,
}
AnySource = Annotated[Source, Kinds(SOURCES)]
