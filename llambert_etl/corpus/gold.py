"""Which labels given by people a step sees, and the rules that everything that writes them shares."""

import hashlib

import polars as pl

from llambert_etl.config import LabellingTask, fingerprint
from llambert_etl.corpus.documents import verified
from llambert_etl.corpus.rare import count_of_each, shares_of
from llambert_etl.errors import ConfigError
from llambert_etl.lake import Lake, Tables, collect
from llambert_etl.partition import Partition

TEST_SHARE = 0.5


def gold_as_of(task: LabellingTask, lake: Tables, upto: Partition) -> pl.DataFrame:
    """Return gold as of a partition: id, text, text_hash, label, split. The latest import of an id wins.

    Raise ConfigError where there is no test split, or where labels are not the task's: before any GPU time is spent.
    """
    latest = known_gold(task, lake, upto)
    if latest.filter(pl.col("split") == "test").is_empty():
        raise ConfigError(
            f"{task.name}: no gold test rows as of {upto}; run `llambert gold import FILE --task {task.name}`"
        )
    return latest


def known_gold(task: LabellingTask, lake: Tables, upto: Partition) -> pl.DataFrame:
    """Return what `gold_as_of` returns, or no rows where there is no gold."""
    rows = collect(lake.scan("gold", task.name, upto=upto))
    latest = _latest(rows).select("id", "text", "text_hash", "label", "split").sort("id")
    verified(latest, "gold")
    foreign = sorted(set(latest["label"].to_list()) - set(task.labels))
    if foreign:
        raise ConfigError(
            f"{task.name}: gold has labels {foreign}, the task file has {list(task.labels)}; mend one of them"
        )
    return latest


def gold_shares(task: LabellingTask, lake: Tables) -> dict[str, float]:
    """Return the share of each label among all gold; empty where there is none.

    Whatever its day: people judge days long past, and what they found is what is known of the labels of any.
    """
    rows = collect(lake.scan("gold", task.name).select("id", "partition", "label"))
    return shares_of(count_of_each(task, _latest(rows)["label"]))


def _latest(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort("partition", descending=True).unique("id", keep="first", maintain_order=True)


def gold_hash(test: pl.DataFrame) -> str:
    """Identify the rows that an encoder is measured on: their texts and labels, whatever their order."""
    return fingerprint(test.select("text_hash", "label").sort("text_hash", "label").rows())


def split_of(key: str) -> str:
    """Divide by a hash of the id: a row stays on its side whatever else is gold."""
    share = int.from_bytes(hashlib.sha256(f"split:{key}".encode()).digest()[:8]) / 2**64
    return "test" if share < TEST_SHARE else "train"


def refuse_other_source(task: LabellingTask, lake: Lake, partition: Partition, step: str) -> None:
    """Raise ConfigError where another step wrote this day's gold: replacing the day would lose what that one wrote."""
    last = lake.last_commit("gold", task.name, partition)
    if last is not None and last.manifest is not None and last.manifest.step != step:
        raise ConfigError(
            f"gold {task.name} {partition}: this day's gold comes from `{last.manifest.step}`; "
            "give a later day, whose rows win over those of earlier days"
        )
