"""The rows that a database's table or view holds for one partition, read by one statement that can change nothing."""

import re
from collections.abc import Mapping

import pyarrow as pa

from llambert_etl.config.sources import TableSource
from llambert_etl.errors import DataError
from llambert_etl.partition import Partition
from llambert_etl.settings import Settings
from llambert_etl.sources.columns import strings
from llambert_etl.sources.drop import Drop, Rows
from llambert_etl.sources.location import allowed_table
from llambert_etl.sources.records import Record
from llambert_etl.store.postgres import Column, Session, connect, quoted, quoted_table
from llambert_etl.wording import listed

_READ_ONLY = ("SET TRANSACTION READ ONLY", "SET LOCAL timezone TO 'UTC'")
_STRING = "S"  # a category: text, varchar, char and what is made of them
_IDS = {"int2", "int4", "int8", "uuid"}
_WHOLE = re.compile(r"numeric\(\d+,0\)")
_DAYS = {"date", "timestamp", "timestamptz"}


class TableDrop(Drop):
    """One partition of a table."""

    def __init__(self, source: TableSource, partition: Partition, settings: Settings) -> None:
        self.location = allowed_table(source, settings.sources)
        self._source, self._partition, self._settings = source, partition, settings

    def rows(self) -> Rows:
        """Yield the rows of the day, in the order of their ids and texts; memory is a batch of them.

        Raise DataError where the table or a column is not there, or is of a kind that is no id, text or day.
        """
        with connect(self._source.connection, self._settings) as session:
            session.begin(*_READ_ONLY)
            self._check(session)
            number = 1
            for batch in session.stream(self._statement()):
                ids, texts = batch.columns

                def row(index: int, ids: pa.Array = ids, texts: pa.Array = texts, first: int = number) -> Record:
                    return Record(f"row {first + index}", ids[index].as_py(), texts[index].as_py())

                yield strings("row", number, ids, texts, row)
                number += batch.num_rows

    def _statement(self) -> str:
        source = self._source
        # One character more than is accepted is enough to refuse a text: a longer one never crosses the network.
        return (
            f"SELECT {quoted(source.id)}::text, left({quoted(source.text)}::text, {source.max_chars + 1}) "  # noqa: S608
            f"FROM {quoted_table(source.table)} WHERE {quoted(source.day)} >= DATE '{self._partition}' "
            f"AND {quoted(source.day)} < DATE '{self._partition}' + 1 ORDER BY 1, 2"
        )

    def _check(self, session: Session) -> None:
        source = self._source
        if session.query("SHOW server_encoding") == [("SQL_ASCII",)]:
            raise DataError(f"{self.location}: its database has no encoding (SQL_ASCII), so its bytes may be any text")
        found = session.columns(source.table)
        if not found:
            raise DataError(
                f"{self.location}: no such table or view, or this user may not see it; mend source.table in the task "
                "file or the user's rights"
            )
        wanted = "a string, an integer, a decimal without fraction or a uuid"
        whole = (column.kind for column in found.values() if _WHOLE.fullmatch(column.kind))
        self._check_column(found, "id", source.id, wanted, {_STRING, *_IDS, *whole})
        self._check_column(found, "text", source.text, "a string", {_STRING})
        self._check_column(found, "day", source.day, "a date or a timestamp", _DAYS)

    def _check_column(self, found: Mapping[str, Column], field: str, column: str, wanted: str, kinds: set[str]) -> None:
        if column not in found:
            raise DataError(
                f"{self.location}: no column {column!r}, columns found {listed(found)}; mend the table, or "
                f"source.{field} in the task file"
            )
        if not set(found[column]) & kinds:
            raise DataError(
                f"{self.location}: column {column!r} is {found[column].kind}, expected {wanted}; name another in "
                f"source.{field}, or in source.table a view that casts it, by "
                f"{_cast_of(field, found[column].kind, quoted(column))}"
            )


def _cast_of(field: str, kind: str, name: str) -> str:
    if field == "day":
        return f"{name}::timestamptz"
    if kind == "bytea":
        return f"convert_from({name}, 'UTF8') where it holds text and encode({name}, 'hex') where it holds a key"
    return f"{name}::text"
