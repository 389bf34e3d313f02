"""Which documents a step sees: the corpus as of a partition."""

import hashlib

import polars as pl
import pyarrow as pa

from llambert_etl.errors import ConfigError, DataError
from llambert_etl.lake import Lake, Tables, collect
from llambert_etl.partition import Partition
from llambert_etl.schemas import DocumentStatus, TableName

_FEW = 1_024


def hash_text(text: str) -> str:
    """Return the sha256 of the cleaned text: what need not be asked or inferred twice."""
    return hashlib.sha256(text.encode()).hexdigest()


def hash_texts(texts: pl.Series) -> pl.Series:
    """Return `hash_text` of each; null for null."""
    return pl.select(pl.when(texts.is_not_null()).then(digests(texts).bin.encode("hex"))).to_series()


def digests(values: pl.Series) -> pl.Series:
    """Return the sha256 of each string; of null what it is of an empty one."""
    held = values.cast(pl.Binary)
    # A few at a time, or as many objects as there are strings take longer to come and go than the hashing.
    parts = (held.slice(start, _FEW).to_list() for start in range(0, len(held), _FEW))
    found = b"".join([hashlib.sha256(value or b"").digest() for part in parts for value in part])
    return pl.Series(pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(held), [None, pa.py_buffer(found)]))


def verified(rows: pl.DataFrame, table: TableName) -> pl.DataFrame:
    """Return rows as they are. Raise DataError where a text is not the one of its text_hash: it was changed since.

    To be called wherever texts are read to be asked about, learnt from or labelled.
    """
    other = rows["id"].filter(rows["text_hash"].ne_missing(hash_texts(rows["text"])))
    if other.len():
        raise DataError(
            f"table {table}: {other.len()} of {rows.height} texts are not what their text_hash says, such as that of "
            f"{other[0]!r}: somebody has changed the table's files; see the runbook, `restore a table`"
        )
    return rows


def ingested(lake: Lake, task: str, partition: Partition) -> int:
    """Return the key of what a day's documents are. Raise ConfigError where no ingest has been: it is no empty day."""
    key = lake.commit_key("documents", task, partition)
    if key is None:
        raise ConfigError(f"{task} {partition}: nothing was ingested for this day; run `llambert ingest` first")
    return key


def as_of(lake: Tables, task: str, upto: Partition) -> pl.LazyFrame:
    """Return accepted documents of partitions <= `upto`: id, partition, text, text_hash.

    The same id in a later partition is a newer revision and wins.
    """
    rows = revisions(lake, task, upto)
    return rows.join(rows.group_by("id").agg(pl.col("partition").max()), on=["id", "partition"])


def revisions(lake: Tables, task: str, upto: Partition) -> pl.LazyFrame:
    """Return what `as_of` does, and with it the older revisions of each id."""
    rows = lake.scan("documents", task, upto=upto).filter(pl.col("status") == DocumentStatus.ACCEPTED)
    return rows.select("id", "partition", "text", "text_hash")


def any_text(lake: Tables, task: str) -> str:
    """Return the text of some accepted document. Raise DataError where there is none."""
    accepted = lake.scan("documents", task).filter(pl.col("status") == DocumentStatus.ACCEPTED)
    found = collect(accepted.select("text").head(1))
    if found.is_empty():
        raise DataError(f"{task}: no document in the lake yet; give a text with --text, or run `llambert ingest` first")
    return str(found.item())


def among(rows: pl.LazyFrame, values: pl.Series) -> pl.LazyFrame:
    """Choose the rows that have one of these values in the column of the series' name.

    A filter reaches the files; a join would hold the texts of the whole corpus.
    """
    return rows.filter(pl.col(values.name).is_in(values.implode()))


def in_shard(shard: int, shards: int) -> pl.Expr:
    """Choose the rows of one of `shards` ranges of text hashes, all of about the same size.

    Rows of the same text are in the same one, and row groups of the others are skipped where rows lie in this order.
    """
    starts = shard_starts(shards)
    own = pl.col("text_hash") >= starts[shard]
    return own if shard == shards - 1 else own & (pl.col("text_hash") < starts[shard + 1])


def shard_starts(shards: int) -> list[str]:
    """Return where each range of text hashes begins; the first has all that come before the second."""
    return ["", *(f"{-(-(number << 32) // shards):08x}" for number in range(1, shards))]
