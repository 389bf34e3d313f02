"""The rows that studies draw from, as of a day: gold to learn from and to test on, and what the LLM has labelled."""

from dataclasses import dataclass

import polars as pl

from llambert_etl.config import LabellingTask
from llambert_etl.corpus.answers import labelled_answers
from llambert_etl.corpus.documents import among, as_of, verified
from llambert_etl.corpus.gold import gold_as_of
from llambert_etl.lake import Tables, collect
from llambert_etl.partition import Partition


@dataclass(frozen=True)
class Pools:
    """Frames of text, text_hash and label, one row for each text; nothing that `test` tests on is learnt from.

    `llm` has the LLM's probabilities too. `judged` has the gold texts of either split that the LLM was asked about:
    what people say (`label`) and what it says (`said`).
    """

    gold: pl.DataFrame
    test: pl.DataFrame
    llm: pl.DataFrame
    judged: pl.DataFrame


def read_pools(task: LabellingTask, partition: Partition, lake: Tables, prompt_hash: str) -> Pools:
    """Read what is known as of the day; nobody is asked. Raise ConfigError for a task without gold."""
    gold = read_gold(task, partition, lake)
    test = gold.filter(pl.col("split") == "test")
    said = collect(labelled_answers(task, lake, prompt_hash).select("text_hash", "label", "probabilities"))
    asked = among(as_of(lake, task.name, partition), said["text_hash"])
    documents = verified(collect(asked.join(said.lazy(), on="text_hash")), "documents")
    tested = pl.col("text_hash").is_in(test["text_hash"].to_list()) | pl.col("id").is_in(test["id"].to_list())
    return Pools(
        gold=_rows(gold.filter(pl.col("split") == "train")),
        test=_rows(test),
        llm=_rows(documents.filter(~tested).unique("text_hash"), "probabilities"),
        judged=_rows(gold).join(said.select("text_hash", said="label"), on="text_hash"),
    )


def read_gold(task: LabellingTask, partition: Partition, lake: Tables) -> pl.DataFrame:
    """Return gold as of the day: id, text, text_hash, label, split. One row a text; a text of both splits is tested."""
    by_test_first = gold_as_of(task, lake, partition).sort("split", "id")
    return by_test_first.unique("text_hash", keep="first", maintain_order=True)


def _rows(frame: pl.DataFrame, *more: str) -> pl.DataFrame:
    return frame.select("text", "text_hash", "label", *more).sort("text_hash")
