"""What the annotator has answered to a task's question: its prompt, model and revision, and no other's.

On which day it was asked makes no difference: an answer follows from the text and the question alone.
"""

import polars as pl

from llambert_etl.config import LabellingTask
from llambert_etl.lake import Lake
from llambert_etl.schemas import AnnotationStatus


def answers(task: LabellingTask, lake: Lake, prompt_hash: str) -> pl.LazyFrame:
    """Return the rows of `annotations`, whatever became of them."""
    return lake.scan("annotations", task.name).filter(
        pl.col("prompt_hash") == prompt_hash,
        pl.col("model") == task.annotator.model,
        pl.col("revision") == task.annotator.revision,
    )


def labelled_answers(task: LabellingTask, lake: Lake, prompt_hash: str) -> pl.LazyFrame:
    """Return the rows with a label, one for each text."""
    found = answers(task, lake, prompt_hash)
    return found.filter(pl.col("status") == AnnotationStatus.LABELLED).unique("text_hash")
