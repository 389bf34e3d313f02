"""What the annotator has answered to a task's question: its prompt, model and revision, and no other's.

On which day it was asked makes no difference: an answer follows from the text and the question alone. One answer to a
question counts, and it is decided here which: every reader of `annotations` comes by this module.
"""

from collections.abc import Mapping

import polars as pl

from llambert_etl.config import LabellingTask
from llambert_etl.corpus.tries import MAX_TRIES, blames_the_document
from llambert_etl.lake import Tables, collect, count
from llambert_etl.schemas import TABLES, AnnotationStatus

ANSWERED = (AnnotationStatus.LABELLED.value, AnnotationStatus.UNPARSED.value)
_KEY = list(TABLES["annotations"].key)
_BEST_FIRST = {AnnotationStatus.LABELLED: 1, AnnotationStatus.UNPARSED: 2, AnnotationStatus.FAILED: 3}


def question(task: LabellingTask, prompt_hash: str) -> dict[str, str]:
    return {"prompt_hash": prompt_hash, "model": task.annotator.model, "revision": task.annotator.revision}


def rows_about(asked: Mapping[str, str], task: str, lake: Tables) -> pl.LazyFrame:
    """Return the rows of `annotations` about one question, those too that do not count."""
    return lake.scan("annotations", task).filter(*(pl.col(name) == value for name, value in asked.items()))


def decided(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Return the one row that counts for each text and question.

    A label comes before a reply without one, and that before a failure. No two writers of ours leave more than one row
    of these; where there are, what is written in them decides, and not the order of files, which `maintain` changes. A
    status that is not known here comes first: the gate must see it.
    """
    rank = pl.col("status").replace_strict(_BEST_FIRST, default=0, return_dtype=pl.Int8)
    order = [rank, *map(pl.col, ("partition", "run", "id", "label", "reply"))]
    return rows.sort(order).unique(_KEY, keep="first", maintain_order=True)


def answers(task: LabellingTask, lake: Tables, prompt_hash: str) -> pl.LazyFrame:
    """Return one row for each text that was asked about, whatever became of it."""
    return decided(rows_about(question(task, prompt_hash), task.name, lake))


def labelled_answers(task: LabellingTask, lake: Tables, prompt_hash: str) -> pl.LazyFrame:
    """Return the rows with a label, one for each text."""
    return answers(task, lake, prompt_hash).filter(pl.col("status") == AnnotationStatus.LABELLED)


def answered_twice(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Return the keys that have more than one answer. Versions before one answer was enforced wrote such."""
    answered = rows.filter(pl.col("status").is_in(ANSWERED))
    return answered.group_by(_KEY).len().filter(pl.col("len") > 1).select(_KEY)


def failed_for_good(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Return the keys without an answer that have had all their tries: each in a run of its own."""
    tried = rows.filter(pl.col("status") == AnnotationStatus.FAILED, blames_the_document())
    tries = tried.group_by(_KEY).agg(pl.struct("partition", "run").n_unique().alias("tries"))
    answered = rows.filter(pl.col("status").is_in(ANSWERED))
    return tries.filter(pl.col("tries") >= MAX_TRIES).select(_KEY).join(answered, on=_KEY, how="anti", nulls_equal=True)


def outcomes(task: str, lake: Tables) -> dict[str, int]:
    """Count what became of all of a task's questions, the most frequent first."""
    rows = lake.scan("annotations", task)
    by_status = decided(rows).group_by("status").len().sort("len", descending=True)
    counted, for_good = dict(collect(by_status).iter_rows()), count(failed_for_good(rows))
    if for_good:
        failed = AnnotationStatus.FAILED.value
        counted |= {failed: counted[failed] - for_good, f"{failed} for good": for_good}
    return {str(status): times for status, times in counted.items() if times}
