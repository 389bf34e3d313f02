"""Lake: reads, and the verbs that write. Each verb is keyed, so that a replay adds nothing."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, CommitProperties, Transaction

from llambert_etl.errors import ConfigError, TransientError
from llambert_etl.lake import commits
from llambert_etl.lake.commits import Commit, fence_of, horizon, key_number, properties_of, read_commits, was_committed
from llambert_etl.lake.definitions import PARTITION_COLUMNS, add_columns, check_columns, create
from llambert_etl.lake.keys import HeldKeys
from llambert_etl.lake.notes import Notes
from llambert_etl.lake.reading import Snapshot, count, stream
from llambert_etl.lake.staging import StagedFiles, add_action, check_schema, missing, write_parquet
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.schemas import TABLES, TableName
from llambert_etl.settings import Settings
from llambert_etl.store.faults import store_faults
from llambert_etl.store.storage import Storage, for_polars

Account = Callable[[pa.Table], Manifest]

# At midnight every task writes its day, and each commit puts off all others that are on their way.
_ATTEMPTS = 30
_CHUNK_ROWS = 20_000
_HEAD = "_head"


class Lake(Notes):
    """The tables under one root."""

    def __init__(self, uri: str, storage_options: Mapping[str, str] | None = None) -> None:
        self._options = dict(storage_options or {})
        self._polars_options = for_polars(self._options)
        super().__init__(Storage(uri, self._options))
        self._seen: dict[TableName, int] = {}
        self._held: dict[tuple[TableName, str, Partition], HeldKeys] = {}

    @classmethod
    def from_settings(cls, settings: Settings) -> "Lake":
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

    # Reading

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
            known = int(self.storage.read(f"{table}/{_HEAD}") or 0)
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
        return Snapshot(opened, self._polars_options)

    def scan_staged(self, table: TableName, task: str, partition: Partition, staged: StagedFiles) -> pl.LazyFrame:
        """Return staged rows as readers would see them after the commit."""
        schema = pa.schema([field for field in TABLES[table].schema if field.name not in PARTITION_COLUMNS])
        if not staged.files:
            frame = pl.LazyFrame(pl.from_arrow(schema.empty_table()))
        else:
            uris = [f"{self.table_uri(table)}/{file.key}" for file in staged.files]
            options = self._polars_options or None
            frame = pl.scan_parquet(uris, storage_options=options, hive_partitioning=False, glob=False)
        columns = [pl.lit(task).alias("task"), pl.lit(str(partition)).alias("partition")]
        return frame.with_columns(columns).select(TABLES[table].schema.names)

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

    # Writing

    def stage(
        self, table: TableName, task: str, partition: Partition, chunks: Iterable[pa.Table], *, name: str
    ) -> StagedFiles:
        """Write chunks to Parquet files that no reader sees yet. Raise DataError on any but the declared schema."""
        replaces = self.commit_key(table, task, partition)
        files = write_parquet(self.storage, table, task, partition, chunks, name)
        return StagedFiles(files=files, replaces=replaces)

    def missing(self, table: TableName, staged: StagedFiles) -> list[str]:
        """Return the staged files that no commit may name: gone, cut, or so old that upkeep may be deleting them."""
        with store_faults(self.table_uri(table)):
            return missing(self.storage, table, staged, horizon(self.open(table)))

    def replace_partition(
        self,
        table: TableName,
        task: str,
        partition: Partition,
        staged: StagedFiles,
        *,
        commit_key: str,
        manifest: Manifest,
    ) -> Commit:
        """Make the partition hold exactly the staged rows, in one commit that carries `manifest`.

        Repeating the call changes nothing. Raise TransientError when another writer has replaced the partition with
        other rows since the work began, or when a staged file is not there any more.
        """
        key, fence = key_number(commit_key), fence_of(task, partition)
        # Not one retry of Delta's: it would commit beside a compaction that has moved the rows which this replaces,
        # and after upkeep has deleted what was looked at here.
        properties = properties_of(manifest, Transaction(fence, key), retries=0)
        adds = [add_action(file, task, partition) for file in staged.files]
        where = f"{table} {task} {partition}"
        with store_faults(f"{self.table_uri(table)} {task} {partition}"):
            for _ in range(_ATTEMPTS):
                delta = self.open(table)
                current = delta.transaction_version(fence)
                if current == key:
                    found = self.last_commit(table, task, partition)
                    return found or Commit(delta.version(), None, replayed=True)
                if current != staged.replaces:
                    raise TransientError(
                        f"{where}: another writer replaced it since this work began; run the step again"
                    )
                if gone := missing(self.storage, table, staged, horizon(delta)):
                    raise TransientError(
                        f"{where}: {len(gone)} of {len(staged.files)} staged files are gone, such as {gone[0]!r}; "
                        "nothing was committed; run the step again"
                    )
                try:
                    self._write(delta, table, adds, "overwrite", properties, task, partition)
                except CommitFailedError:
                    # Our commit went through and its reply was lost, or another writer won, or Delta took a commit of
                    # another partition for a conflict: it knows no predicate of staged files. Look again which.
                    continue
                return self._committed(table, delta, manifest)
        raise TransientError(f"{where}: {_ATTEMPTS} commits in a row lost to other writers")

    def append_once(
        self, table: TableName, task: str, partition: Partition, rows: pa.Table, *, manifest: Manifest | Account
    ) -> Commit:
        """Add the rows whose key the table does not hold; a replay or a second writer of the same rows adds none.

        A manifest that depends on which rows are added is made of them, again at each attempt.
        """
        check_schema(table, rows)
        fence, place = f"append/{task}", (table, task, partition)
        held = self._held.setdefault(place, HeldKeys(TABLES[table], task, partition))
        with store_faults(f"{self.table_uri(table)} {task} {partition}"):
            for _ in range(_ATTEMPTS):
                delta = self.open(table)
                absent = held.absent(rows, delta, self.table_uri(table), self._polars_options)
                made = manifest if isinstance(manifest, Manifest) else manifest(absent)
                if absent.num_rows == 0:
                    return Commit(delta.version(), made, replayed=True)
                files = write_parquet(self.storage, table, task, partition, [absent], "append")
                turn = (delta.transaction_version(fence) or 0) + 1
                adds = [add_action(file, task, partition) for file in files]
                try:
                    # Delta may put it after what others have committed meanwhile, but for upkeep's moving its horizon.
                    properties = properties_of(made, Transaction(fence, turn), retries=10)
                    self._write(delta, table, adds, "append", properties)
                except CommitFailedError:
                    # Another writer was first: look again which rows are absent. Or it went through and its reply was
                    # lost: looked at again, our own rows would be another's.
                    if not was_committed(self.storage, table, delta, files[0].key):
                        continue
                return self._committed(table, delta, made)
        raise TransientError(f"{table} {task} {partition}: {_ATTEMPTS} commits in a row lost to other writers")

    def rewrite_partition(
        self,
        table: TableName,
        task: str,
        partition: Partition,
        change: Callable[[pl.LazyFrame], pl.LazyFrame],
        *,
        commit_key: str | None,
        manifest: Manifest,
    ) -> Commit:
        """Replace a partition's rows by what `change` makes of them, in one commit that carries `manifest`.

        Nothing that is written beside it is lost: appends and replacements are fenced, and the change is made anew.
        Without a `commit_key` the content counts as what it was.
        """
        append, replace = f"append/{task}", fence_of(task, partition)
        with store_faults(f"{self.table_uri(table)} {task} {partition}"):
            for _ in range(_ATTEMPTS):
                delta = self.open(table)
                rows = change(self.scan(table, task, partition, version=delta.version()))
                chunks = (_declared(table, frame) for frame in stream(rows, count(rows), _CHUNK_ROWS))
                files = write_parquet(self.storage, table, task, partition, chunks, "rewritten")
                held = delta.transaction_version(replace) if commit_key is None else key_number(commit_key)
                fences = [Transaction(append, (delta.transaction_version(append) or 0) + 1)]
                fences += [] if held is None else [Transaction(replace, held)]
                adds = [add_action(file, task, partition) for file in files]
                properties = properties_of(manifest, *fences, retries=0)
                try:
                    self._write(delta, table, adds, "overwrite", properties, task, partition)
                except CommitFailedError:
                    continue
                return self._committed(table, delta, manifest)
        raise TransientError(f"{table} {task} {partition}: {_ATTEMPTS} commits in a row lost to other writers")

    def restore(self, table: TableName, version: int) -> None:
        """Make the table what it was at an older version, commit keys included: steps do again what was undone.

        Raise ConfigError where the version is not there, or no longer.
        """
        with store_faults(self.table_uri(table)):
            delta = self.open(table)
            if not 0 <= version < delta.version():
                raise ConfigError(
                    f"{table}: version {version} is not before {delta.version()}, the one that it has now"
                )
            fences = commits.fences_at(self.storage, table, delta, self.open(table, version))
            delta.restore(version, commit_properties=CommitProperties(app_transactions=fences))

    def _committed(self, table: TableName, before: DeltaTable, manifest: Manifest) -> Commit:
        version = commits.version_of(self.storage, table, before, manifest)
        # A lower bound, whoever writes it last: the newest commit's log may go, and nothing in the table would tell.
        self.storage.write(f"{table}/{_HEAD}", [str(version).encode()])
        self._seen[table] = max(version, self._seen[table])
        return Commit(version, manifest, replayed=False)

    def _write(
        self,
        delta: DeltaTable,
        table: TableName,
        adds: list[AddAction],
        mode: str,
        properties: CommitProperties,
        task: str | None = None,
        partition: Partition | None = None,
    ) -> None:
        filters = [("task", "=", task), ("partition", "=", str(partition))] if mode == "overwrite" else None
        delta.create_write_transaction(
            # Its own schema: Delta would take the declared one in its place, and with it a later version's columns.
            list(adds),
            mode,
            delta.schema(),
            PARTITION_COLUMNS,
            filters,
            commit_properties=properties,
        )


def _declared(table: TableName, frame: pl.DataFrame) -> pa.Table:
    schema = TABLES[table].schema
    return frame.select(schema.names).to_arrow().cast(schema)
