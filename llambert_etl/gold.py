"""Which labels given by people a step sees."""

import polars as pl

from llambert_etl.config import LabellingTask, fingerprint
from llambert_etl.errors import ConfigError
from llambert_etl.lake import Lake, lake_faults
from llambert_etl.partition import Partition


def gold_as_of(task: LabellingTask, lake: Lake, upto: Partition) -> pl.DataFrame:
    """Return gold as of a partition: id, text, text_hash, label, split. The latest import of an id wins.

    Raise ConfigError where there is no test split, or where labels are not the task's: before any GPU time is spent.
    """
    with lake_faults("gold"):
        rows = lake.scan("gold", task.name, upto=upto).collect()
    latest = (
        rows.sort("partition", descending=True)
        .unique("id", keep="first", maintain_order=True)
        .select("id", "text", "text_hash", "label", "split")
        .sort("id")
    )
    if latest.filter(pl.col("split") == "test").is_empty():
        raise ConfigError(
            f"{task.name}: no gold test rows as of {upto}; run `llambert gold import FILE --task {task.name}`"
        )
    foreign = sorted(set(latest["label"].to_list()) - set(task.labels))
    if foreign:
        raise ConfigError(
            f"{task.name}: gold has labels {foreign}, the task file has {list(task.labels)}; mend one of them"
        )
    return latest


def gold_hash(test: pl.DataFrame) -> str:
    """Identify the rows that an encoder is measured on: their texts and labels, whatever their order."""
    return fingerprint(test.select("text_hash", "label").sort("text_hash", "label").rows())
