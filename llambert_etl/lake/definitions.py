"""What a table must look like: created where it is absent, given columns that are new, refused where it differs."""

from collections.abc import Mapping

import pyarrow as pa
from deltalake import DeltaTable, Schema
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import CommitProperties

from llambert_etl.errors import ConfigError
from llambert_etl.schemas import TABLES, TableName

PARTITION_COLUMNS = ["task", "partition"]
# Manifests live in the log, so the log is kept for a year; the default of 30 days would forget them.
TABLE_PROPERTIES = {"delta.logRetentionDuration": "interval 365 days", "delta.checkpointInterval": "20"}


def create(uri: str, table: TableName, options: Mapping[str, str]) -> None:
    """Create the table where it is absent. Racing callers all succeed."""
    if DeltaTable.is_deltatable(uri, dict(options)):
        return
    try:
        DeltaTable.create(
            uri,
            TABLES[table].schema,
            mode="ignore",
            partition_by=PARTITION_COLUMNS,
            configuration=TABLE_PROPERTIES,
            storage_options=dict(options),
            # Tried again, a loser would lay a second definition over the winner's table.
            commit_properties=CommitProperties(max_commit_retries=0),
        )
    except CommitFailedError:
        if not DeltaTable.is_deltatable(uri, dict(options)):
            raise


def check_columns(table: TableName, delta: DeltaTable) -> None:
    """Refuse a table that lacks a declared column, which Delta would drop from rows without a word, or differs in one.

    Columns of a later version are left alone.
    """
    if absent := _absent(table, delta):
        raise ConfigError(
            f"table {table}: an older version of llambert has made it, without the columns {absent.names}: run "
            "`llambert init`, which adds them"
        )


def add_columns(table: TableName, delta: DeltaTable) -> None:
    if absent := _absent(table, delta):
        delta.alter.add_columns(Schema.from_arrow(absent).fields)


def _absent(table: TableName, delta: DeltaTable) -> pa.Schema:
    there = {field.name: field.type for field in pa.schema(delta.schema())}
    for field in TABLES[table].schema:
        if there.get(field.name, field.type) != field.type:
            raise ConfigError(
                f"table {table}: column {field.name!r} is {there[field.name]} there and {field.type} in this version "
                "of llambert: use the version that wrote it, or another lake"
            )
    return pa.schema([field for field in TABLES[table].schema if field.name not in there])
