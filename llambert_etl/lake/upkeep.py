"""Keeps the lake small: merges small files, and deletes what no reader and no run can need any more."""

import datetime
import math
import re
import uuid
from collections.abc import Callable, Collection
from typing import Literal, TypeVar

import polars as pl
import pyarrow.fs as pafs
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import CommitProperties, Transaction

from llambert_etl.errors import TransientError
from llambert_etl.lake import text_index
from llambert_etl.lake.commits import UPKEEP, horizon
from llambert_etl.lake.layout import writer_properties
from llambert_etl.lake.tables import Lake
from llambert_etl.schemas import TableName
from llambert_etl.store.faults import store_faults

# Never less: readers may hold old versions, and runs that are not published yet files that no version names.
RETENTION = datetime.timedelta(days=7)

_ATTEMPTS = 3
_TARGET_BYTES = 100 * 1024 * 1024
# Of checkpoints: one may be half written, or not be named yet.
_NEWEST = 3
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")
# Its value means nothing; that it changes is what other commits run into.
_PROPERTY = "llambert.upkeep"

Result = TypeVar("Result")


def merge_small_files(lake: Lake, table: TableName) -> int:
    """Merge small files of each partition into large ones; return how many were merged."""

    def merge(delta: DeltaTable) -> int:
        if not _scattered(delta):
            return 0
        # Delta takes two compactions at once for no conflict, and each row is there twice. Of several here only the one
        # whose turn came last can commit.
        _take_turn(delta, horizon(delta))
        merged = lake.open(table).optimize.compact(
            target_size=_TARGET_BYTES, writer_properties=writer_properties(table)
        )
        return int(merged["numFilesRemoved"])

    return _until_first(lake, table, merge)


def put_off(lake: Lake, table: TableName) -> None:
    """Let no commit to a table through that was begun before: its writer looks again at what it has to know."""
    _until_first(lake, table, lambda delta: _take_turn(delta, horizon(delta)))


def delete_old_files(lake: Lake, table: TableName, before: datetime.datetime, named: Collection[str] = ()) -> int:
    """Delete files written before a moment that no version needs which was current since; return how many.

    Those that `named` has, of runs that may still be published, stay, and so does whatever is younger than them.
    """
    with store_faults(lake.table_uri(table)):
        before = min([before, *(info.mtime for key, info in lake.storage.below(table).items() if key in named)])
        delta = lake.open(table)
        if not _needless(lake, table, delta, before):
            return 0
        if horizon(delta) < _milliseconds(before):
            # No writer commits files older than this from here on, and one that is about to is put off. What was
            # committed until here is live in the version that is looked at below.
            _take_turn(delta, _milliseconds(before))
        return sum(lake.storage.delete(info) for info in _needless(lake, table, lake.open(table), before))


def drop_checkpoints(lake: Lake, table: TableName, before: datetime.datetime) -> int:
    """Delete checkpoints of the log that no reader needs; return how many. Delta keeps each for as long as its log.

    The commits stay, so every version can still be read. Whoever reads one that was current since `before` begins at
    the checkpoint that it would have begun at; of older ones the first of each month stays: Delta deletes commits of
    more than a year only as far as to a checkpoint.
    """
    log = lake.storage.list(f"{table}/_delta_log")
    found = {int(name[1]): info for info in log if (name := _CHECKPOINT.fullmatch(info.base_name))}
    newest_first = sorted(found, reverse=True)
    old = [version for version in newest_first if found[version].mtime < before]
    monthly = {f"{found[version].mtime:%Y-%m}": version for version in old}
    kept = {*newest_first[:_NEWEST], *old[:1], *monthly.values()}
    return sum(lake.storage.delete(found[version]) for version in old if version not in kept)


def drop_indexes(lake: Lake, table: TableName, before: datetime.datetime) -> int:
    """Delete indexes of files that the table has no more, written before a moment; return how many."""
    live = {uri.rpartition("/")[2] for uri in lake.open(table).file_uris()}
    found = lake.storage.list(f"{text_index.FOLDER}/{table}")
    return sum(lake.storage.delete(info) for info in found if info.base_name not in live and info.mtime < before)


def drop_notes(lake: Lake, before: datetime.datetime) -> int:
    """Delete staging notes last written before a moment, and all notes of the runs planned before it; return how many.

    To be called before files are deleted: no note may name a file that is gone.
    """
    notes = lake.storage.list("_staging")
    runs = tuple(_folder(info) for info in notes if info.base_name == "plan.json" and info.mtime < before)
    old = [info for info in notes if info.mtime < before or info.path.startswith(runs)]
    # A run without its plan is none: cut off half-way, what is left of it does not count.
    return sum(lake.storage.delete(info) for info in sorted(old, key=lambda info: info.base_name != "plan.json"))


def drop_files(lake: Lake, folder: Literal["_reports", "_studies"], before: datetime.datetime) -> int:
    """Delete the files of a folder that were written before a moment; return how many."""
    with store_faults(f"{lake.uri}/{folder}"):
        return sum(lake.storage.delete(info) for info in lake.storage.list(folder) if info.mtime < before)


def oldest_kept(lake: Lake, days: int) -> datetime.datetime:
    """Return the moment before which things are old by the store's clock and by this machine's: one may be wrong."""
    now = min(lake.storage.now(), datetime.datetime.now(datetime.UTC))
    return now - datetime.timedelta(days=days)


def _until_first(lake: Lake, table: TableName, attempt: Callable[[DeltaTable], Result]) -> Result:
    """Return what an attempt on the table comes to. Where another writer has committed meanwhile, look at it again."""
    with store_faults(lake.table_uri(table)):
        for _ in range(_ATTEMPTS):
            try:
                return attempt(lake.open(table))
            except CommitFailedError:
                continue
    raise TransientError(f"{table}: {_ATTEMPTS} times another writer was first; run the step again")


def _scattered(delta: DeltaTable) -> bool:
    """Tell whether some partition has two files that fit into one."""
    files = pl.DataFrame(delta.get_add_actions(flatten=True)).group_by("partition.task", "partition.partition")
    smallest = files.agg(pl.len(), pl.col("size_bytes").bottom_k(2).sum())
    return not smallest.filter(pl.col("len") > 1, pl.col("size_bytes") <= _TARGET_BYTES).is_empty()


def _take_turn(delta: DeltaTable, until: int) -> None:
    """Make a commit that is a conflict for every commit begun before it, and whose fence says what may be deleted."""
    delta.alter.set_table_properties(
        {_PROPERTY: uuid.uuid4().hex},
        raise_if_not_exists=False,
        commit_properties=CommitProperties(app_transactions=[Transaction(UPKEEP, until)]),
    )


def _needless(lake: Lake, table: TableName, delta: DeltaTable, before: datetime.datetime) -> list[pafs.FileInfo]:
    # Delta counts back from this machine's clock, and names again what is deleted already, as long as its log does.
    hours = math.ceil((datetime.datetime.now(datetime.UTC) - before) / datetime.timedelta(hours=1))
    named = set(delta.vacuum(hours, dry_run=True, full=True))
    # In milliseconds, as the horizon is: a writer takes for whole what is no older than that.
    oldest, found = _milliseconds(before), lake.storage.below(table)
    return [info for key, info in found.items() if key in named and _milliseconds(info.mtime) < oldest]


def _folder(info: pafs.FileInfo) -> str:
    return f"{info.path.rpartition('/')[0]}/"


def _milliseconds(moment: datetime.datetime) -> int:
    return int(moment.timestamp() * 1000)
