"""Which documents a step sees: the corpus as of a partition, and the stable sample of it."""

import hashlib

import polars as pl

from llambert_etl.errors import ConfigError
from llambert_etl.lake import Lake
from llambert_etl.partition import Partition
from llambert_etl.schemas import DocumentStatus


def hash_text(text: str) -> str:
    """Return the sha256 of the cleaned text: what need not be asked or inferred twice."""
    return hashlib.sha256(text.encode()).hexdigest()


def ingested(lake: Lake, task: str, partition: Partition) -> int:
    """Return the key of what a day's documents are. Raise ConfigError where no ingest has been: it is no empty day."""
    key = lake.commit_key("documents", task, partition)
    if key is None:
        raise ConfigError(f"{task} {partition}: nothing was ingested for this day; run `llambert ingest` first")
    return key


def as_of(lake: Lake, task: str, upto: Partition) -> pl.LazyFrame:
    """Return accepted documents of partitions <= `upto`: id, partition, text, text_hash.

    The same id in a later partition is a newer revision and wins.
    """
    accepted = lake.scan("documents", task, upto=upto).filter(pl.col("status") == DocumentStatus.ACCEPTED)
    latest = accepted.group_by("id").agg(pl.col("partition").max())
    return accepted.select("id", "partition", "text", "text_hash").join(latest, on=["id", "partition"])


def among(rows: pl.LazyFrame, values: pl.Series) -> pl.LazyFrame:
    """Choose the rows that have one of these values in the column of the series' name.

    A filter reaches the files; a join would hold the texts of the whole corpus.
    """
    return rows.filter(pl.col(values.name).is_in(values.implode()))


def in_shard(shard: int, shards: int) -> pl.Expr:
    """Choose the rows of one of `shards` parts of about the same size; rows of the same text are in the same one."""
    # Not strict: polars looks at every row of a Parquet file, also at refused documents without a text, and reads their
    # null as an empty string.
    return pl.col("text_hash").str.slice(0, 8).str.to_integer(base=16, strict=False) % shards == shard


def sample(documents: pl.LazyFrame, n: int, seed: int | str) -> pl.DataFrame:
    """Return the `n` documents with the smallest hash(seed, text_hash), one for each text.

    A larger sample contains every smaller one, and where a document stands in the corpus does not matter.
    """
    distinct = documents.select("id", "text_hash").sort("id").unique("text_hash", keep="first", maintain_order=True)
    ranked = draw(distinct.collect(), n, seed)
    # Texts are read for the chosen rows only, so memory follows the sample and not the corpus.
    texts = among(documents, ranked["id"]).select("id", "partition", "text").collect()
    return ranked.join(texts, on="id", maintain_order="left")


def draw(rows: pl.DataFrame, n: int, seed: int | str) -> pl.DataFrame:
    """Return the `n` rows with the smallest hash(seed, text_hash), smallest first. More rows contain every fewer."""
    ranks = pl.Series([_rank(seed, text_hash) for text_hash in rows["text_hash"]], dtype=pl.String)
    return rows[ranks.arg_sort()[:n]]


def _rank(seed: int | str, text_hash: str) -> str:
    return hashlib.sha256(f"{seed}:{text_hash}".encode()).hexdigest()
