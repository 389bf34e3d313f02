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


def label_rows(answered: pl.DataFrame, plan: Plan, task: LabellingTask, config_hash: str) -> pa.Table:
    """Return the label rows of documents with their answers: id, text_hash, label, probabilities."""
    schema, rows = TABLES["labels"].schema, answered.height
    probabilities = answered["probabilities"].to_numpy()
    same = {
        "task": task.name,
        "partition": str(plan.partition),
        "model_name": plan.model.name,
        "model_version": plan.model.version,
        "config_hash": config_hash,
        "run": plan.run,
    }
    columns = {name: pa.repeat(pa.scalar(value, schema.field(name).type), rows) for name, value in same.items()}
    columns |= {name: answered[name].to_arrow().cast(pa.string()) for name in ("id", "text_hash", "label")}
    columns["confidence"] = pa.array(probabilities.max(axis=1, initial=0.0))
    columns["probabilities"] = _by_label(probabilities, task.label_names)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _by_label(probabilities: Probabilities, labels: Sequence[str]) -> pa.ListArray:
    rows, width = probabilities.shape
    names = pa.array(labels, pa.string()).take(pa.array(np.tile(np.arange(width), rows)))
    entries = pa.StructArray.from_arrays(
        [names, pa.array(probabilities.ravel())], fields=list(PROBABILITIES.value_type)
    )
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1) * width, pa.int32()), entries, type=PROBABILITIES)


def _rounded(probabilities: Probabilities) -> Probabilities:
    """Return the nearest numbers of so many bits. What is rounded already stays as it is."""
    spare = np.uint32(24 - _SIGNIFICANT_BITS)
    bits = probabilities.astype(np.float32).view(np.uint32)
    nearest = (bits + (np.uint32(1) << (spare - np.uint32(1)))) >> spare << spare
    return nearest.view(np.float32).astype(np.float64)
