"""What an export holds: the labels of a partition with their texts, as they were published last."""

import datetime
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

import polars as pl
import pyarrow as pa

from llambert_etl.errors import DataError
from llambert_etl.exports.index import LabelIndex
from llambert_etl.facts import Labelled
from llambert_etl.lake import Lake, count
from llambert_etl.partition import Partition
from llambert_etl.schemas import DocumentStatus

# `held`: the place has these labels already. `newer`: it has newer ones, which are never replaced by older.
Arrival = Literal["exported", "held", "newer"]
Batches = Iterable[pa.RecordBatch]

# `text` is null where the document has changed since it was labelled: the label run that follows exports it again.
SCHEMA = pa.schema(
    [
        pa.field("task", pa.string()),
        pa.field("partition", pa.date32()),
        pa.field("id", pa.string()),
        pa.field("text", pa.string()),
        pa.field("label", pa.string()),
        pa.field("confidence", pa.float64()),
        pa.field("model_name", pa.string()),
        pa.field("model_version", pa.int64()),
        pa.field("text_hash", pa.string()),
    ]
)


class PublishedPartition(NamedTuple):
    """The labels of a partition. `version` is that of the commit that made them, so a later one is greater."""

    task: str
    partition: Partition
    version: int
    rows: int
    model_version: int
    table_version: int


def find_published(lake: Lake, task: str, partition: Partition) -> PublishedPartition | None:
    """Return what was published last; None where nothing was, or longer ago than the log reaches, a year."""
    version = lake.version("labels")
    commit = lake.last_commit("labels", task, partition)
    if commit is None or commit.manifest is None:
        return None
    return PublishedPartition(
        task=task,
        partition=partition,
        version=commit.version,
        rows=commit.manifest.rows["read"],
        model_version=Labelled.of(commit.manifest).model_version,
        # Files of the commit's own version may have been merged and removed since; another commit may come any time.
        table_version=max(version, commit.version),
    )


def published_rows(lake: Lake, published: PublishedPartition, scratch: Path) -> Iterator[pa.RecordBatch]:
    """Yield the rows, in no order: each table is read once, and labels wait for their texts in `scratch`.

    Raise DataError where they are not as many as were published: nothing half is exported.
    """
    task, partition = published.task, published.partition
    tables = lake.snapshot("documents", at={"labels": published.table_version})
    labels = tables.scan("labels", task, partition).select(
        "id", "text_hash", "label", "confidence", "model_name", "model_version"
    )
    rows = tables.scan("documents", task, partition).filter(pl.col("status") == DocumentStatus.ACCEPTED)
    documents = rows.select("id", "text", "text_hash")
    read = count(labels)
    if read:
        scratch.mkdir(parents=True, exist_ok=True)
        index, read = LabelIndex(labels, read, scratch), 0
        for frame in chain(index.labelled(documents, count(documents)), index.others()):
            read += frame.height
            yield from _batches(frame, published)
    if read != published.rows:
        raise DataError(
            f"labels {task} {partition}: {read} rows read, {published.rows} were published; nothing was exported: see "
            "the runbook, `restore a table`"
        )


def _batches(frame: pl.DataFrame, published: PublishedPartition) -> list[pa.RecordBatch]:
    day = datetime.date.fromisoformat(published.partition)
    named = frame.with_columns(pl.lit(published.task).alias("task"), pl.lit(day).alias("partition"))
    # In one piece: each becomes a row group of a file.
    table = named.select(SCHEMA.names).to_arrow(compat_level=pl.CompatLevel.newest()).cast(SCHEMA).combine_chunks()
    return list(table.to_batches())
