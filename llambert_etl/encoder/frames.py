"""From labelled rows of a table to what training and evaluation take: the labels' numbers, in the task's order."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from llambert_etl.encoder.labelled import Labelled


def labelled(rows: pl.DataFrame, names: Sequence[str]) -> Labelled:
    """Take texts and labels; where the rows have `probabilities`, those are what is learnt."""
    soft = _soft(rows, names) if "probabilities" in rows.columns else None
    return Labelled(tuple(rows["text"].to_list()), tuple(truth(rows, names).tolist()), soft)


def truth(rows: pl.DataFrame, names: Sequence[str]) -> npt.NDArray[np.int64]:
    index = {label: number for number, label in enumerate(names)}
    return np.asarray([index[label] for label in rows["label"].to_list()], dtype=np.int64)


def _soft(rows: pl.DataFrame, names: Sequence[str]) -> tuple[tuple[float, ...], ...]:
    """Return the annotator's probabilities in the task's label order; its label counts as certain without them."""
    targets = []
    for label, given in rows.select("label", "probabilities").iter_rows():
        known = {each["label"]: each["probability"] for each in given} if given else {label: 1.0}
        targets.append(tuple(known.get(name, 0.0) for name in names))
    return tuple(targets)
