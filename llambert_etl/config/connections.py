"""Named SQL connections: what a task file may say of them. The URI behind a name is the deployment's secret."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, SecretStr, Tag

from llambert_etl.config.fields import COLUMN, TABLE_PATH, Part

# What tells the kinds of a source and of an export apart; no message shows them.
FILES, TABLE = "(files)", "(table)"

_DATABASE = re.compile(r"(?i)postgres(ql)?://")


def _name(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", value):
        raise ValueError(
            "must be the name of a connection of the deployment, such as warehouse; its URI belongs in "
            "LLAMBERT_CONNECTIONS__<name> or in a mounted file of that name, never in a task file"
        )
    return value


def _uri(value: SecretStr) -> SecretStr:
    if not _DATABASE.match(value.get_secret_value()):
        raise ValueError("must be a URI that starts with postgresql://")
    return value


ConnectionName = Annotated[str, AfterValidator(_name)]
ConnectionUri = Annotated[SecretStr, AfterValidator(_uri)]
# `schema.table` or `table`, each spelt as the database keeps it: it is quoted, so its case counts.
TablePath = Annotated[str, Field(pattern=TABLE_PATH)]
Column = Annotated[str, Field(pattern=COLUMN)]


class TableSource(Part):
    """Documents from a table or a view. `day` is the column whose UTC day is the partition."""

    connection: ConnectionName = Field(description="the name in `LLAMBERT_CONNECTIONS__<NAME>`")
    table: TablePath = Field(description="`table` or `schema.table`, spelt as the database keeps it")
    day: Column = Field(description="column of timestamps or dates")
    id: Column = Field(description="column of strings, integers, decimals without fraction or uuids")
    text: Column = Field(description="column of strings")
    max_chars: int = Field(default=100_000, gt=0, description="a longer text is refused as `text_too_long`")


class Warehouse(Part):
    """A table to which labels are exported, made where it is absent."""

    connection: ConnectionName = Field(description="the name in `LLAMBERT_CONNECTIONS__<NAME>`")
    table: TablePath = Field(description="`table` or `schema.table`, spelt as the database keeps it")


def _kind_of_export(value: object) -> str:
    return TABLE if isinstance(value, Warehouse | Mapping) else FILES


def _as_list(value: object) -> object:
    found = [] if value == "none" else value if isinstance(value, list) else [value]
    if not all(each == "parquet" or isinstance(each, Warehouse | Mapping) for each in found):
        raise ValueError(
            "must be none, parquet, {connection: <name>, table: <table>} or a list of such; the connection's URI "
            "belongs in LLAMBERT_CONNECTIONS__<name>"
        )
    return found


def _each_once(value: list["Export"]) -> list["Export"]:
    if len(set(value)) < len(value):
        raise ValueError("names one place twice")
    return value


Export = Annotated[
    Annotated[Literal["parquet"], Tag(FILES)] | Annotated[Warehouse, Tag(TABLE)], Discriminator(_kind_of_export)
]
Exports = Annotated[list[Export], BeforeValidator(_as_list), AfterValidator(_each_once)]


def holds_secret(uri: str) -> bool:
    """Tell whether a URI is a database's or names a user: neither belongs in a task file."""
    return bool(_DATABASE.match(uri) or re.match(r"\w+://[^/]*@", uri))


def without_secrets(text: str) -> str:
    """Hide passwords, and what a database's URI says behind its scheme."""
    return re.sub(r"(?i)(postgres(ql)?://|\w+://[^\s/]*@|password=)[^\s'\"]*", "***", text)
