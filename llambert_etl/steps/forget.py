"""Forget documents: take every row of theirs out of every table, and refuse what comes again under their ids."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import polars as pl

from llambert_etl.config import LabellingTask
from llambert_etl.corpus.forgotten import Forgotten
from llambert_etl.facts import WithoutForgotten
from llambert_etl.lake import Lake, collect
from llambert_etl.lake.upkeep import put_off
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.schemas import DocumentStatus, TableName
from llambert_etl.sources.records import Reason

logger = logging.getLogger(__name__)

# Labels last: until they go, they lead to the documents, and a call that was cut off finds them again by the ids.
_TABLES: tuple[TableName, ...] = ("annotations", "reviews", "gold", "documents", "labels")
_OF_A_DOCUMENT = ("id", "text", "text_hash")

Change = Callable[[pl.LazyFrame], pl.LazyFrame]


class Removed(NamedTuple):
    """How many rows of a table's day are gone, or would be."""

    table: TableName
    partition: Partition
    rows: int


def forget(task: LabellingTask, ids: Sequence[str], *, run: str, lake: Lake, dry_run: bool = False) -> list[Removed]:
    """Take these documents out of all tables; return what of each day is gone. Repeating it changes nothing.

    A row of `documents` stays, refused as `forgotten`, without id, text or hash: what was read is still accounted for.
    An annotation goes with the document that it was asked about, and where no other document has its text. What the ids
    are is noted first, so that no ingest or import brings them back meanwhile.
    Versions before this one hold the rows until `maintain` deletes their files, after its retention.
    """
    if not dry_run:
        Forgotten(lake, task.name).add(ids)
        for table in _TABLES:
            put_off(lake, table)  # what looked at the notes before them commits before this, and is seen here
    # No snapshot: what others have written until a table is rewritten is to go too.
    gone = _rows_of(task, ids, lake)
    removed = []
    for table in _TABLES:
        change = _anonymous(gone["documents"]) if table == "documents" else _without(gone[table])
        for partition, rows in _counted(table, task, gone[table], lake):
            removed.append(Removed(table, partition, rows))
            if not dry_run:
                _rewrite(table, task, partition, change, gone[table], run, lake)
    return removed


def days_to_export(task: LabellingTask, removed: Sequence[Removed], lake: Lake) -> list[Partition]:
    """Return the days whose exports may hold what is forgotten.

    Those too of which an earlier call has taken rows: it may have been cut off, or refused, before it exported them.
    """
    newest: dict[Partition, Manifest] = {}
    for commit in lake.commits("labels", task.name):
        if commit.manifest is not None:
            newest.setdefault(commit.manifest.partition, commit.manifest)
    taken = {day for day, made in newest.items() if WithoutForgotten.of(made).forgotten}
    return sorted(taken | {each.partition for each in removed if each.table in ("documents", "labels")})


def _rows_of(task: LabellingTask, ids: Sequence[str], lake: Lake) -> Mapping[TableName, pl.Expr]:
    """Return for each table which of its rows are these documents'."""
    mine = pl.col("id").is_in(list(ids))
    documents = lake.scan("documents", task.name).filter(pl.col("text_hash").is_not_null())
    hashes = collect(documents.filter(mine).select("text_hash").unique())["text_hash"]
    shared = documents.filter(~mine, pl.col("text_hash").is_in(hashes.implode())).select("text_hash").unique()
    alone = hashes.filter(~hashes.is_in(collect(shared)["text_hash"].implode()))
    asked = mine | pl.col("text_hash").is_in(alone.implode())
    return {"documents": mine, "labels": mine, "gold": mine, "reviews": mine, "annotations": asked}


def _counted(table: TableName, task: LabellingTask, gone: pl.Expr, lake: Lake) -> list[tuple[Partition, int]]:
    found = collect(lake.scan(table, task.name).filter(gone).group_by("partition").len().sort("partition"))
    return [(Partition(day), rows) for day, rows in found.iter_rows()]


def _anonymous(gone: pl.Expr) -> Change:
    values: dict[str, str | None] = dict.fromkeys(_OF_A_DOCUMENT)
    values |= {"status": DocumentStatus.REJECTED.value, "reason": Reason.FORGOTTEN.value}
    mine = gone.fill_null(value=False)
    columns = {name: pl.when(mine).then(pl.lit(value)).otherwise(pl.col(name)) for name, value in values.items()}
    return lambda rows: rows.with_columns(**columns)


def _without(gone: pl.Expr) -> Change:
    return lambda rows: rows.filter(~gone.fill_null(value=False))


def _rewrite(
    table: TableName,
    task: LabellingTask,
    partition: Partition,
    change: Change,
    gone: pl.Expr,
    run: str,
    lake: Lake,
) -> None:
    before = lake.last_commit(table, task.name, partition)
    rows = collect(lake.scan(table, task.name, partition).filter(gone))
    if before is None or before.manifest is None:
        manifest = Manifest(
            step="forget",
            task=task.name,
            partition=partition,
            run=run,
            rows={"read": rows.height, "forgotten": rows.height},
            config_hash=task.config_hash,
        )
    else:
        # The day's account goes on with what is left: exports, gates and the next night read it.
        manifest = _account(before.manifest, table, rows)
        if table == "labels":
            # As newer documents' labels they keep out a label run that was planned when these were still there.
            manifest = manifest.model_copy(update={"versions_read": {"documents": lake.version("documents")}})
    # Another content than that of the files, or of a label run under way: neither may take it for its own.
    key = f"forgotten at {lake.version(table)}" if table in ("documents", "labels") else None
    commit = lake.rewrite_partition(table, task.name, partition, change, commit_key=key, manifest=manifest)
    logger.info("forget %s %s %s: %s rows at version %s", table, task.name, partition, rows.height, commit.version)


def _account(before: Manifest, table: TableName, rows: pl.DataFrame) -> Manifest:
    counts, reasons = dict(before.rows), dict(before.reasons)
    if table == "documents":
        accepted = rows.filter(pl.col("status") == DocumentStatus.ACCEPTED).height
        counts |= {"accepted": counts["accepted"] - accepted, "rejected": counts["rejected"] + accepted}
        for reason, count in rows.filter(pl.col("reason").is_not_null())["reason"].value_counts().iter_rows():
            reasons[reason] = reasons.get(reason, 0) - count
        reasons[Reason.FORGOTTEN] = reasons.get(Reason.FORGOTTEN, 0) + rows.height
    elif table == "gold":
        for split, count in rows["split"].value_counts().iter_rows():
            counts[split] -= count
        counts["read"] -= rows.height
    else:
        # Which of them were inferred no row says: of the day's labels so many are simply gone.
        counts["read"] -= rows.height
        inferred = min(rows.height, counts["inferred"])
        counts |= {"inferred": counts["inferred"] - inferred, "reused": counts["reused"] - (rows.height - inferred)}
    reasons = {reason: count for reason, count in reasons.items() if count > 0}
    gone = WithoutForgotten(forgotten=WithoutForgotten.of(before).forgotten + rows.height)
    return before.telling(gone).model_copy(update={"rows": counts, "reasons": reasons})
