"""What an export holds: the labels of a partition with their texts, as they were published last."""

import datetime
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import polars as pl
import pyarrow as pa

from llambert_etl.corpus.documents import in_shard
from llambert_etl.errors import DataError
from llambert_etl.facts import Labelled
from llambert_etl.lake import Lake, collect, stream
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

_KEY = ["id", "text_hash"]
# Rows of a row group.
_CHUNK_ROWS = 8192
# Labels held in memory. Of a day with more, both tables are read once for every so many.
_AT_ONCE = 100_000


class Published(NamedTuple):
    """The labels of a partition. `version` is that of the commit that made them, so a later one is greater."""

    task: str
    partition: Partition
    version: int
    rows: int
    model_version: int
    table_version: int


def find_published(lake: Lake, task: str, partition: Partition) -> Published | None:
    """Return what was published last; None where nothing was, or longer ago than the log reaches, a year."""
    version = lake.version("labels")
    commit = lake.last_commit("labels", task, partition)
    if commit is None or commit.manifest is None:
        return None
    return Published(
        task=task,
        partition=partition,
        version=commit.version,
        rows=commit.manifest.rows["read"],
        model_version=Labelled.of(commit.manifest).model_version,
        # Files of the commit's own version may have been merged and removed since; another commit may come any time.
        table_version=max(version, commit.version),
    )


def published_rows(lake: Lake, published: Published, at_once: int = _AT_ONCE) -> Iterator[pa.RecordBatch]:
    """Yield the rows, in no order; memory is about `at_once` labels and the texts that polars reads ahead.

    Raise DataError where they are not as many as were published: nothing half is exported.
    """
    task, partition = published.task, published.partition
    tables = lake.snapshot("documents", at={"labels": published.table_version})
    labels = tables.scan("labels", task, partition).select(*_KEY, "label", "confidence", "model_name", "model_version")
    documents = tables.scan("documents", task, partition).filter(pl.col("status") == DocumentStatus.ACCEPTED)
    read, shards = 0, 1 + published.rows // at_once
    parts = [in_shard(shard, shards) for shard in range(shards)]
    sizes = collect(labels.select(part.sum().alias(str(number)) for number, part in enumerate(parts))).row(0)
    for part, size in zip(parts, sizes, strict=True):
        mine, texts = labels.filter(part), documents.filter(part).select(*_KEY, "text")
        # The join holds labels, and texts stream past them.
        rows = mine.join(texts, on=_KEY, how="left", build_side="force_left")
        for frame in stream(rows, size, _CHUNK_ROWS):
            read += frame.height
            yield from _batches(frame, published)
    if read != published.rows:
        raise DataError(
            f"labels {task} {partition}: {read} rows read, {published.rows} were published; nothing was exported: see "
            "the runbook, `restore a table`"
        )


def _batches(frame: pl.DataFrame, published: Published) -> list[pa.RecordBatch]:
    day = datetime.date.fromisoformat(published.partition)
    named = frame.with_columns(pl.lit(published.task).alias("task"), pl.lit(day).alias("partition"))
    # In one piece: each becomes a row group of a file.
    table = named.select(SCHEMA.names).to_arrow().cast(SCHEMA).combine_chunks()
    return list(table.to_batches())
