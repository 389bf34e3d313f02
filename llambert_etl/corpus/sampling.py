"""The stable sample of documents: those with the smallest hash(seed, text_hash), one for each text."""

import polars as pl

from llambert_etl.corpus.documents import among, digests, revisions, verified
from llambert_etl.lake import Tables, collect, count, stream
from llambert_etl.partition import Partition

_PLACE = ["id", "partition"]
_CHUNK_ROWS = 1 << 17
_RANKED = pl.Schema({"rank": pl.Binary, "text_hash": pl.String})


def sample(lake: Tables, task: str, upto: Partition, n: int, seed: int | str) -> pl.DataFrame:
    """Return `n` documents as of a partition: id, text_hash, partition, text.

    A larger sample contains every smaller one, and where a document stands in the corpus does not matter. Memory
    follows the sample and not the corpus.
    """
    days = [day for day in lake.partitions("documents", task) if day <= upto]
    return _sample(revisions(lake, task, upto), n, seed, revised=len(days) > 1)


def sample_of(documents: pl.LazyFrame, n: int, seed: int | str) -> pl.DataFrame:
    """Return the same of documents of which no older revision is among them."""
    return _sample(documents, n, seed, revised=False)


def draw(rows: pl.DataFrame, n: int, seed: int | str) -> pl.DataFrame:
    """Return the `n` rows with the smallest hash(seed, text_hash), smallest first. More rows contain every fewer."""
    return rows[_ranks(rows["text_hash"], seed).arg_sort()[:n]]


def _sample(documents: pl.LazyFrame, n: int, seed: int | str, *, revised: bool) -> pl.DataFrame:
    wanted = n
    while True:
        nearest = _nearest(documents.select("text_hash"), wanted, seed)
        rows = collect(
            among(documents, nearest["text_hash"]).select("id", "partition", "text_hash"), engine="streaming"
        )
        if revised:
            rows = _newest(documents, rows)
        chosen = nearest.join(rows.sort("id").unique("text_hash", keep="first"), on="text_hash").sort("rank").head(n)
        if chosen.height == n or nearest.height < wanted:
            break
        wanted *= 4  # some of those texts are in older revisions only
    # Texts are read for the chosen rows only.
    texts = collect(among(documents, chosen["id"]).select(*_PLACE, "text"), engine="streaming")
    found = chosen.select("id", "text_hash", "partition").join(texts, on=_PLACE, maintain_order="left")
    return verified(found, "documents")


def _nearest(hashes: pl.LazyFrame, n: int, seed: int | str) -> pl.DataFrame:
    """Return the `n` distinct text hashes of the smallest rank, each with its rank."""
    nearest = pl.DataFrame(schema=_RANKED)
    for chunk in stream(hashes, count(hashes), _CHUNK_ROWS):
        ranked = chunk.with_columns(rank=_ranks(chunk["text_hash"], seed))
        if nearest.height == n:
            ranked = ranked.filter(pl.col("rank") < nearest["rank"][-1])
        nearest = pl.concat([nearest, ranked.select(_RANKED.names())]).unique("text_hash").sort("rank").head(n)
    return nearest


def _newest(documents: pl.LazyFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows whose id no later partition has: the same id there is a newer revision and wins."""
    latest = among(documents, rows["id"].unique()).group_by("id").agg(pl.col("partition").max())
    return rows.join(collect(latest, engine="streaming"), on=_PLACE)


def _ranks(hashes: pl.Series, seed: int | str) -> pl.Series:
    return digests(pl.select(pl.lit(f"{seed}:") + hashes).to_series())
