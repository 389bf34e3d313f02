"""Rows of `labels`, built by columns: what a model says of texts, and what every row of a run has in common."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from llambert_etl.config import LabellingTask
from llambert_etl.labelling.plan import Plan
from llambert_etl.schemas import PROBABILITIES, TABLES

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


def common_columns(plan: Plan, task: LabellingTask) -> list[pl.Expr]:
    """Return what all rows of a run have in common."""
    same = {
        "task": task.name,
        "partition": str(plan.partition),
        "model_name": plan.model.name,
        "model_version": plan.model.version,
        "config_hash": task.config_hash,
        "run": plan.run,
    }
    return [
        pl.lit(value, pl.Int64 if isinstance(value, int) else pl.String).alias(name) for name, value in same.items()
    ]


def label_rows(answered: pl.DataFrame, same: Sequence[pl.Expr], labels: Sequence[str]) -> pa.Table:
    """Return label rows of documents with their answers: id, text_hash, label, probabilities."""
    probabilities = answered["probabilities"].to_numpy()
    confidence = pl.Series("confidence", probabilities.max(axis=1, initial=0.0))
    said = _by_label(probabilities, labels).cast(PROBABILITIES)
    rows = answered.select("id", "text_hash", "label", confidence, *same).to_arrow(compat_level=pl.CompatLevel.newest())
    return rows.append_column("probabilities", said).select(TABLES["labels"].schema.names)


def _by_label(probabilities: Probabilities, labels: Sequence[str]) -> pa.Array:
    # By way of polars: pyarrow imports all of pandas to look what an array of numpy is.
    rows, width = probabilities.shape
    names = pl.Series(labels, dtype=pl.String).gather(np.tile(np.arange(width), rows))
    offsets = pl.Series(np.arange(rows + 1, dtype=np.int32) * width)
    entries = pl.DataFrame({"label": names, "probability": probabilities.ravel()}).to_struct()
    return pa.ListArray.from_arrays(offsets.to_arrow(), entries.to_arrow())


def _rounded(probabilities: Probabilities) -> Probabilities:
    """Return the nearest numbers of so many bits. What is rounded already stays as it is."""
    spare = np.uint32(24 - _SIGNIFICANT_BITS)
    bits = probabilities.astype(np.float32).view(np.uint32)
    nearest = (bits + (np.uint32(1) << (spare - np.uint32(1)))) >> spare << spare
    return nearest.view(np.float32).astype(np.float64)
