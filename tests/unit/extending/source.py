"""A source: the rows that a table of a SQLite file has of a day."""

import sqlite3
from contextlib import closing
from pathlib import Path

from pydantic import Field

from llambert_etl.config import Source
from llambert_etl.config.connections import Column
from llambert_etl.errors import DataError
from llambert_etl.partition import Partition
from llambert_etl.settings import Settings
from llambert_etl.sources.drop import Drop, Rows
from llambert_etl.sources.location import allowed_location
from llambert_etl.sources.records import Record
from llambert_etl.store.postgres import quoted


class SqliteSource(Source):
    """Documents from a table of a SQLite file. `day` is the column of dates that is the partition."""

    sqlite: str = Field(description="absolute path of the file, under `LLAMBERT_SOURCES`")
    table: Column = Field(description="a table or a view of it")
    day: Column = Field(description="column of dates")
    id: Column = Field(description="column of strings or integers")
    text: Column = Field(description="column of strings")


class SqliteDrop(Drop):
    """One partition of the table."""

    def __init__(self, source: SqliteSource, partition: Partition, settings: Settings) -> None:
        self.location = allowed_location(source.sqlite, settings.sources)
        self._source, self._partition = source, partition

    def rows(self) -> Rows:
        source = self._source
        statement = (
            f"SELECT {quoted(source.id)}, {quoted(source.text)} FROM {quoted(source.table)} "
            f"WHERE date({quoted(source.day)}) = ? ORDER BY 1, 2"
        )
        try:
            with closing(sqlite3.connect(f"{Path(source.sqlite).as_uri()}?mode=ro", uri=True)) as database:
                for number, (key, text) in enumerate(database.execute(statement, [self._partition]), 1):
                    yield Record(f"row {number}", key, text)
        except sqlite3.Error as error:
            raise DataError(f"{self.location}: {error}; mend the file, or `source` in the task file") from error
