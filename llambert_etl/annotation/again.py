"""Kept replies read again: a newer parser may find a label where an older one found none, and nobody is asked."""

import logging
from collections.abc import Callable

import polars as pl

from llambert_etl.annotation.backlog import Backlog
from llambert_etl.corpus.answers import decided, rows_about
from llambert_etl.lake import collect
from llambert_etl.llm.parsing import NO_LABEL, PARSER_VERSION, read_reply
from llambert_etl.partition import Partition
from llambert_etl.schemas import AnnotationStatus

logger = logging.getLogger(__name__)

# From this version on a reply that was cut off is told as such. Of those before, any may be: read with that in mind.
_TELLS_CUT = 4
_OLDER = pl.col("parser_version").cast(pl.Int64, strict=False) < int(PARSER_VERSION)
_UNPARSED = pl.col("status") == AnnotationStatus.UNPARSED


def read_again(work: Backlog) -> dict[str, int]:
    """Label the rows about the run's question whose reply holds a label after all; return how many, for the facts.

    A row is changed in its place, so that a question has one answer. One that an older parser has labelled is left
    alone: it was learnt from and measured as it is.
    """
    task = work.task
    unread = pl.all_horizontal(_UNPARSED, _OLDER, pl.col("reason").is_in(NO_LABEL), pl.col("reply") != "")
    rows = rows_about(work.question, task.name, work.lake)
    texts = rows.filter(unread).select("text_hash").unique()
    # Of these texts alone: a sample's replies are large.
    kept = decided(rows.join(texts, on="text_hash", how="semi")).filter(unread)
    replies = collect(kept.select("partition", "run", "text_hash", "reason", "parser_version", "reply"))
    found = replies.with_columns(
        pl.Series(
            "read", [_label(work, *row) for row in replies.select("reply", "reason", "parser_version").rows()]
        ).cast(pl.String)
    ).filter(pl.col("read").is_not_null())
    for (day,), labels in found.group_by("partition", maintain_order=True):
        manifest = work.finish({"read_again": labels.height})
        change = _with(labels.select("text_hash", "run", "read"), work.question)
        work.lake.rewrite_partition(
            "annotations", task.name, Partition(str(day)), change, commit_key=None, manifest=manifest
        )
        logger.info("annotate %s: %s replies of %s have a label after all", task.name, labels.height, day)
    return {"read_again": found.height} if found.height else {}


def _label(work: Backlog, reply: str, reason: str, version: str) -> str | None:
    cut = reason == "cut_off" or int(version) < _TELLS_CUT
    return read_reply(work.task, reply, 0, cut=cut).label


def _with(labels: pl.DataFrame, question: dict[str, str]) -> Callable[[pl.LazyFrame], pl.LazyFrame]:
    mine = pl.all_horizontal(_UNPARSED, *(pl.col(name) == value for name, value in question.items()))
    taken = mine & pl.col("read").is_not_null()
    values = {
        "status": pl.lit(AnnotationStatus.LABELLED.value),
        "label": pl.col("read"),
        "reason": pl.lit(None, pl.String),
        "parser_version": pl.lit(PARSER_VERSION),
    }
    columns = {name: pl.when(taken).then(value).otherwise(name) for name, value in values.items()}
    return lambda rows: rows.join(labels.lazy(), on=["text_hash", "run"], how="left").with_columns(**columns)
