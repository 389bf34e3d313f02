"""Lake: the verbs that write. Each is keyed, so that a replay adds nothing."""

from collections.abc import Callable, Iterable, Mapping

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, CommitProperties, Transaction

from llambert_etl.errors import ConfigError, TransientError
from llambert_etl.lake import commits
from llambert_etl.lake.commits import Commit, fence_of, horizon, key_number, properties_of, was_committed
from llambert_etl.lake.definitions import PARTITION_COLUMNS
from llambert_etl.lake.keys import HeldKeys
from llambert_etl.lake.opening import HEAD, ReadableLake
from llambert_etl.lake.reading import count, stream
from llambert_etl.lake.staging import StagedFiles, add_action, check_schema, missing, write_parquet
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.schemas import TABLES, TableName
from llambert_etl.store.faults import store_faults

Account = Callable[[pa.Table], Manifest]

# At midnight every task writes its day, and each commit puts off all others that are on their way.
_ATTEMPTS = 30
_CHUNK_ROWS = 20_000


class Lake(ReadableLake):
    """The tables under one root."""

    def __init__(self, uri: str, storage_options: Mapping[str, str] | None = None) -> None:
        super().__init__(uri, storage_options)
        self._held: dict[tuple[TableName, str, Partition], HeldKeys] = {}

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
                absent = held.absent(rows, delta, self.table_uri(table), self.polars_options)
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
        self.storage.write(f"{table}/{HEAD}", [str(version).encode()])
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
