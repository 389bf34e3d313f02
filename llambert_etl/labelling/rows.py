"""Rows of `labels`, built by columns: what a model says of texts, and what every row of a run has in common."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from llambert_etl.config import LabellingTask
from llambert_etl.labelling.plan import Plan
from llambert_etl.schemas import TABLES

Probabilities = npt.NDArray[np.float64]

# Of the 24 that a float32 has, which is what an encoder computes in: five digits, and half the bytes.
_SIGNIFICANT_BITS = 16


def answers(texts: pl.Series, probabilities: Probabilities, labels: Sequence[str]) -> pl.DataFrame:
    """Return what was said of each text hash: text_hash, label, probabilities as they are stored."""
    best = pl.Series(labels, dtype=pl.String).gather(probabilities.argmax(axis=1))
    return pl.DataFrame({"text_hash": texts, "label": best, "probabilities": _rounded(probabilities)})


def no_answers(labels: Sequence[str]) -> pl.DataFrame:
    kind = pl.Array(pl.Float64, len(labels))
    return pl.DataFrame(schema={"text_hash": pl.String, "label": pl.String, "probabilities": kind})


def label_columns(plan: Plan, task: LabellingTask) -> list[pl.Expr]:
    """Return what makes label rows of documents with their answers: id, text_hash, label, probabilities."""
    by_label = [
        pl.struct(pl.lit(name).alias("label"), pl.col("probabilities").arr.get(index).alias("probability"))
        for index, name in enumerate(task.label_names)
    ]
    columns = {
        "task": pl.lit(task.name),
        "partition": pl.lit(str(plan.partition)),
        "confidence": pl.col("probabilities").arr.max(),
        "probabilities": pl.concat_list(by_label),
        "model_name": pl.lit(plan.model.name),
        "model_version": pl.lit(plan.model.version, pl.Int64),
        "config_hash": pl.lit(task.config_hash),
        "run": pl.lit(plan.run),
    }
    return [columns.get(name, pl.col(name)).alias(name) for name in TABLES["labels"].schema.names]


def label_rows(answered: pl.DataFrame, columns: Sequence[pl.Expr]) -> pa.Table:
    return answered.select(columns).to_arrow().cast(TABLES["labels"].schema)


def _rounded(probabilities: Probabilities) -> Probabilities:
    """Return the nearest numbers of so many bits. What is rounded already stays as it is."""
    spare = np.uint32(24 - _SIGNIFICANT_BITS)
    bits = probabilities.astype(np.float32).view(np.uint32)
    nearest = (bits + (np.uint32(1) << (spare - np.uint32(1)))) >> spare << spare
    return nearest.view(np.float32).astype(np.float64)
