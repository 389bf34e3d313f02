"""Tables opened and read: as they are now, at an older version, or as staged files would make them."""

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Self

import polars as pl
from deltalake import DeltaTable

from llambert_etl.lake import commits
from llambert_etl.lake.commits import Commit, fence_of, key_number, read_commits
from llambert_etl.lake.definitions import add_columns, check_columns, create
from llambert_etl.lake.layout import file_schema
from llambert_etl.lake.notes import Notes
from llambert_etl.lake.reading import Snapshot, scan_files
from llambert_etl.lake.staging import StagedFiles
from llambert_etl.partition import Partition
from llambert_etl.schemas import TABLES, TableName
from llambert_etl.settings import Settings
from llambert_etl.store.faults import store_faults
from llambert_etl.store.storage import Storage, for_polars, safe_key

HEAD = "_head"
# Small enough for a reader of a range to skip most of the others.
_GROUP_ROWS = 16_384


class ReadableLake(Notes):
    """The tables under one root, to be read."""

    def __init__(self, uri: str, storage_options: Mapping[str, str] | None = None) -> None:
        self._options = dict(storage_options or {})
        self.polars_options = for_polars(self._options)
        super().__init__(Storage(uri, self._options))
        self._seen: dict[TableName, int] = {}

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        # Of each file polars reads the end first, by itself 256 KiB: a day of thousands of rows is as large.
        os.environ.setdefault("POLARS_CLOUD_FOOTER_READ_SIZE", str(16 << 10))
        return cls(settings.lake, settings.storage_options)

    def table_uri(self, table: TableName) -> str:
        return f"{self.uri}/{table}"

    def create_tables(self) -> None:
        """Create what is absent. Racing callers all succeed: the losers find the winner's table."""
        for table in TABLES:
            with store_faults(self.table_uri(table)):
                create(self.table_uri(table), table, self._options)

    def add_columns(self) -> None:
        """Give tables that an older version has made the columns that are new; null in the rows that are there."""
        for table in TABLES:
            with store_faults(self.table_uri(table)):
                add_columns(table, DeltaTable(self.table_uri(table), storage_options=self._options))

    def open(self, table: TableName, version: int | None = None) -> DeltaTable:
        """Return the table itself; for this package, and to be used within `store_faults`.

        Raise ConfigError where it lacks a column of this version of llambert, or has one of another type; DataError
        where its log has lost its end, which Delta takes for an older table.
        """
        uri = self.table_uri(table)
        if version is not None:
            return DeltaTable(uri, version=version, storage_options=self._options)
        # Known before the table is opened: others, threads with this very lake among them, commit meanwhile.
        known = self._seen.get(table)
        if known is None:
            known = int(self.storage.read(f"{table}/{HEAD}") or 0)
        delta = DeltaTable(uri, storage_options=self._options)
        check_columns(table, delta)
        commits.refuse_lost_end(delta, known)
        self._seen[table] = delta.version()
        return delta

    def scan(
        self,
        table: TableName,
        task: str,
        partition: Partition | None = None,
        *,
        upto: Partition | None = None,
        version: int | None = None,
    ) -> pl.LazyFrame:
        """Return the rows of one task as a snapshot does that is opened now, for `collect`, `count` or `stream`."""
        at = {} if version is None else {table: version}
        return self.snapshot(table, at=at).scan(table, task, partition, upto=upto)

    def snapshot(self, *tables: TableName, at: Mapping[TableName, int] = MappingProxyType({})) -> Snapshot:
        """Open tables for all that one step reads of them: as they are now, or at the versions `at`."""
        opened = {}
        for table in dict.fromkeys([*tables, *at]):
            with store_faults(self.table_uri(table)):
                opened[table] = self.open(table, at.get(table))
        return Snapshot(opened, self.polars_options)

    def scan_staged(self, table: TableName, task: str, partition: Partition, staged: StagedFiles) -> pl.LazyFrame:
        """Return staged rows as readers would see them after the commit."""
        if not staged.files:
            frame = pl.LazyFrame(pl.from_arrow(file_schema(table).empty_table()))
        else:
            uris = [f"{self.table_uri(table)}/{file.key}" for file in staged.files]
            frame = scan_files(uris, self.polars_options)
        columns = [pl.lit(task).alias("task"), pl.lit(str(partition)).alias("partition")]
        return frame.with_columns(columns).select(TABLES[table].schema.names)

    def write_rows(self, key: str, rows: pl.DataFrame) -> None:
        """Write rows beside the staging notes, in their order."""
        out = io.BytesIO()
        rows.write_parquet(out, compression_level=1, row_group_size=_GROUP_ROWS)
        self.storage.write(safe_key("_staging", key), [out.getvalue()])

    def scan_rows(self, keys: Sequence[str]) -> pl.LazyFrame:
        return scan_files([f"{self.uri}/_staging/{key}" for key in keys], self.polars_options)

    def version(self, table: TableName) -> int:
        with store_faults(self.table_uri(table)):
            return self.open(table).version()

    def partitions(self, table: TableName, task: str) -> list[Partition]:
        return self.snapshot(table).partitions(table, task)

    def commit_key(self, table: TableName, task: str, partition: Partition) -> int | None:
        """Return the fingerprint of the commit key that last replaced this partition: its content's identity."""
        with store_faults(self.table_uri(table)):
            return self.open(table).transaction_version(fence_of(task, partition))

    def holds(self, table: TableName, task: str, partition: Partition, commit_key: str) -> bool:
        """Tell whether the partition holds what `commit_key` stands for."""
        return self.commit_key(table, task, partition) == key_number(commit_key)

    def last_commit(self, table: TableName, task: str, partition: Partition) -> Commit | None:
        """Return the newest commit that replaced this partition, with its manifest."""
        with store_faults(self.table_uri(table)):
            delta = self.open(table)
            if delta.transaction_version(fence_of(task, partition)) is None:
                return None
            found = read_commits(self.storage, table, delta)
            return next((each for each in found if each.wrote(task, partition)), None)

    def commits(self, table: TableName, task: str) -> Iterator[Commit]:
        """Yield a task's commits, newest first, as far back as the log reaches (a year)."""
        with store_faults(self.table_uri(table)):
            for commit in read_commits(self.storage, table, self.open(table)):
                if commit.manifest is not None and commit.manifest.task == task:
                    yield commit
