"""Named SQL connections at work: sessions with limits, faults translated. The only importer of ADBC."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import adbc_driver_manager as adbc
import pyarrow as pa
from adbc_driver_postgresql import StatementOptions

from llambert_etl.errors import ConfigError, DataError, LlambertError, TransientError
from llambert_etl.settings import Settings

if TYPE_CHECKING:
    from adbc_driver_postgresql.dbapi import Connection, Cursor

# A database that hangs fails the step within minutes. A URI that says otherwise wins.
_OPTIONS = {
    "connect_timeout": "10",
    "tcp_user_timeout": "60000",
    "client_encoding": "UTF8",
    "application_name": "llambert",
}
_LIMITS = ("SET LOCAL statement_timeout TO '1h'", "SET LOCAL lock_timeout TO '1min'")
_BATCH_BYTES = 4 << 20
_MAX_MESSAGE = 300

# libpq has no code for a connection that fails, only sentences; what is not known here may pass by itself.
_REFUSED = re.compile(
    r"password|does not exist|pg_hba\.conf|not permitted to log in|permission denied|SSL|certificate|GSS", re.I
)
_REACHED = re.compile(r'connection to server (at|on socket) "[^"]*".*? failed: (?P<said>.*)', re.S)

# The first two characters of an SQLSTATE.
_PASSING = {"08", "40", "53", "55", "57", "58"}  # connection, deadlock, resources, lock, shutdown or time limit, disk
_UNFIT = {"22", "23"}  # values that the table cannot take
_UNREADABLE = re.compile(r"ERROR:\s+(invalid (input|byte)|division by zero|[^\n]*out of range)")


_COLUMNS = """
    SELECT attname::text, CASE typname WHEN 'numeric' THEN format_type(atttypid, atttypmod) ELSE typname END::text,
        typcategory::text
    FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
    WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""


class Column(NamedTuple):
    """A type as PostgreSQL names it, such as `int8` or `numeric(38,0)`, and its category: `S` for all strings."""

    kind: str
    category: str


class Session:
    """One connection in one transaction at a time: what is not committed when the session ends has not happened."""

    def __init__(self, name: str, connection: "Connection") -> None:
        self._name, self._connection = name, connection

    def begin(self, *settings: str) -> None:
        """Begin a transaction that ends in time, with `settings` of its own."""
        for statement in (*settings, *_LIMITS):
            self.execute(statement)

    def execute(self, statement: str, *parameters: object) -> None:
        with self._cursor() as cursor:
            cursor.execute(statement, parameters or None)

    def query(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """Return all rows: for answers of a few."""
        with self._cursor() as cursor:
            # Without this the driver wraps the statement in a COPY, which not every statement can be part of.
            cursor.adbc_statement.set_options(**{StatementOptions.USE_COPY.value: "false"})
            cursor.execute(statement, parameters or None)
            return list(cursor.fetchall())

    def columns(self, table: str) -> dict[str, Column]:
        """Return the columns of a table or view in their order; none where there is none, or it may not be seen."""
        found = self.query(_COLUMNS, quoted_table(table))
        return {str(name): Column(str(kind), str(category)) for name, kind, category in found}

    def stream(self, statement: str) -> Iterator[pa.RecordBatch]:
        """Yield batches of a few MB while the server is still sending. It takes no parameters: they would end that."""
        with self._cursor() as cursor:
            cursor.adbc_statement.set_options(**{StatementOptions.BATCH_SIZE_HINT_BYTES.value: str(_BATCH_BYTES)})
            cursor.execute(statement)
            yield from cursor.fetch_record_batch()

    def append(self, table: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        """Stream rows into a table (`name` or `schema.name`)."""
        space, _, name = table.rpartition(".")
        failed: list[Exception] = []

        def watched() -> Iterator[pa.RecordBatch]:
            try:
                yield from batches
            except Exception as error:
                failed.append(error)  # else the driver would make a fault of its own of it
                raise

        try:
            with self._cursor() as cursor:
                reader = pa.RecordBatchReader.from_batches(schema, watched())
                cursor.adbc_ingest(name, reader, mode="append", db_schema_name=space or None)
        except LlambertError as error:
            raise (failed or [error])[0] from error.__cause__

    def commit(self) -> None:
        with _faults(self._name):
            self._connection.commit()

    @contextmanager
    def _cursor(self) -> "Iterator[Cursor]":
        with _faults(self._name), self._connection.cursor() as cursor:
            yield cursor


@contextmanager
def connect(name: str, settings: Settings) -> Iterator[Session]:
    """Open a session on a named connection.

    Raise TransientError where the server is down or does not answer, ConfigError where it refuses.
    """
    from adbc_driver_postgresql import dbapi  # which imports pandas

    uri = settings.connection(name).get_secret_value()
    given = uri.partition("?")[2]
    options = "&".join(f"{option}={value}" for option, value in _OPTIONS.items() if f"{option}=" not in given)
    try:
        connection = dbapi.connect(f"{uri}{'&' if given else '?'}{options}")
    except adbc.Error as error:
        raise _unconnected(name, str(error)) from None  # its text may quote a part of the URI
    try:
        yield Session(name, connection)
    finally:
        connection.close()


def quoted(*parts: str) -> str:
    """Return a name for a statement in which each part means only itself."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def quoted_table(table: str) -> str:
    """Quote `table` or `schema.table`."""
    return quoted(*table.split("."))


def _unconnected(name: str, said: str) -> LlambertError:
    variable = f"LLAMBERT_CONNECTIONS__{name.upper()}"
    reached = _REACHED.search(said)
    if reached is None and "could not translate host name" not in said:
        return ConfigError(f"connection {name!r}: its URI is not understood; mend {variable}")
    reason = " ".join(reached["said"].split()) if reached else "its host has no address"
    if _REFUSED.search(reason):
        return ConfigError(f"connection {name!r}: refused: {reason}; mend {variable}, or the rights of its user")
    return TransientError(f"connection {name!r}: {reason}; is the database up, and {variable} right?")


@contextmanager
def _faults(name: str) -> Iterator[None]:
    """Raise one of the three errors in place of the driver's."""
    try:
        yield
    except adbc.Error as error:
        raise _translated(name, error) from error
    except OSError as error:  # from Arrow, while rows are read; it brings no SQLSTATE
        if _UNREADABLE.search(str(error)):
            raise DataError(
                f"connection {name!r}: a row cannot be read: {_without_value(_said(error))}; mend the row, or the view"
            ) from error
        raise TransientError(f"connection {name!r}: broke off: {_said(error)}; run it again") from error


def _translated(name: str, error: adbc.Error) -> LlambertError:
    where, said, code = f"connection {name!r}", _said(error), error.sqlstate
    if code is None or code[:2] in _PASSING:
        return TransientError(f"{where}: {said}; run it again")
    if code[:2] in _UNFIT:
        return DataError(f"{where}: the table does not take these rows: {_without_value(said)}")
    return ConfigError(f"{where}: {said} (SQLSTATE {code}); mend the task file, the table or the user's rights")


def _said(error: Exception) -> str:
    """Return the server's own sentence, or the driver's first one: what follows may hold a row's values.

    So may the sentence itself, behind its colon or in quotes, where it is a row that the server complains of.
    """
    found = re.search(r"(?:ERROR|FATAL):\s+(.*)", str(error))
    return (found[1] if found else str(error).strip().partition("\n")[0])[:_MAX_MESSAGE]


def _without_value(said: str) -> str:
    """Cut what a sentence about a row's value quotes of it."""
    return re.sub(r'".*("|$)', '"..."', said)
