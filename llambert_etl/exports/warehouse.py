"""Exports to a table of a SQL warehouse: one transaction a partition, in which it also notes what it holds."""

import pyarrow as pa

from llambert_etl.config.exports import Warehouse
from llambert_etl.errors import ConfigError
from llambert_etl.exports.published import SCHEMA, Arrival, Batches, PublishedPartition
from llambert_etl.lake import Lake
from llambert_etl.settings import Settings
from llambert_etl.store.postgres import Session, connect, quoted, quoted_table

# Beside each table to which labels are exported: which publish of each partition it holds.
BOOKS = "llambert_exports"

_KINDS = {pa.string(): "text", pa.date32(): "date", pa.float64(): "float8", pa.int64(): "int8"}
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"


def write_warehouse(
    warehouse: Warehouse, published: PublishedPartition, batches: Batches, *, run: str, lake: Lake, settings: Settings
) -> Arrival:
    """Make the table hold exactly these rows of the partition, or leave it as it is: nothing between is ever seen.

    A publish that the table holds already, or an older one, changes nothing. The table and its books are made where
    they are absent. Raise ConfigError where the table has other columns.
    """
    table, books = quoted_table(warehouse.table), _books(warehouse.table)
    task, partition = published.task, str(published.partition)
    with connect(warehouse.connection, settings) as session:
        _prepare(session, warehouse)
        session.begin()
        session.query(_LOCK, f"{warehouse.table}/{task}/{partition}")
        held = session.query(
            f"SELECT labels_version FROM {books} WHERE table_name = $1 AND task = $2 AND partition = $3::date",  # noqa: S608
            *(warehouse.table, task, partition),
        )
        if held and int(str(held[0][0])) >= published.version:
            return "held" if held[0][0] == published.version else "newer"
        session.execute(f"DELETE FROM {table} WHERE task = $1 AND partition = $2::date", task, partition)  # noqa: S608
        session.append(warehouse.table, SCHEMA, batches)
        session.execute(
            f"INSERT INTO {books} VALUES ($1, $2, $3::date, $4, $5, $6, $7) "  # noqa: S608
            "ON CONFLICT (table_name, task, partition) DO UPDATE SET labels_version = excluded.labels_version, "
            "model_version = excluded.model_version, rows = excluded.rows, run = excluded.run, exported_at = now()",
            *(warehouse.table, task, partition, published.version, published.model_version, published.rows, run),
        )
        session.commit()
    return "exported"


def _prepare(session: Session, warehouse: Warehouse) -> None:
    table = warehouse.table
    session.begin()
    session.query(_LOCK, table)  # of two that create a table at once, one would fail
    if not session.columns(_books_path(table)):
        session.execute(
            f"CREATE TABLE {_books(table)} (table_name text, task text, partition date, "
            "labels_version bigint NOT NULL, model_version bigint NOT NULL, rows bigint NOT NULL, run text NOT NULL, "
            "exported_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (table_name, task, partition))"
        )
    wanted = {field.name: _KINDS[field.type] for field in SCHEMA}
    found = {name: column.kind for name, column in session.columns(table).items()}
    if not found:
        columns = ", ".join(f"{quoted(name)} {kind}" for name, kind in wanted.items())
        session.execute(f"CREATE TABLE {quoted_table(table)} ({columns}, PRIMARY KEY (task, partition, id))")
        session.execute(f"DELETE FROM {_books(table)} WHERE table_name = $1", table)  # noqa: S608
    elif found != wanted:
        raise ConfigError(
            f"connection {warehouse.connection!r}: table {table!r} has the columns {found}, expected {wanted}; name "
            "another table in the task file's export, or put this one away"
        )
    session.commit()


def _books(table: str) -> str:
    return quoted_table(_books_path(table))


def _books_path(table: str) -> str:
    schema, dot, _ = table.rpartition(".")
    return f"{schema}{dot}{BOOKS}"
