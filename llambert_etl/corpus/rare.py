"""Labels that few rows have: how few, which of them an encoder never gives, and which setting helps."""

import logging
from collections.abc import Mapping
from typing import Final

import polars as pl

from llambert_etl.config import LabellingTask

WEIGHTS_HELP: Final = "encoder.class_weights: true lets rare labels count more"
_MORE_GOLD = "its F1 is known no better than so few rows allow: label more of it"
# With less than this part of an even share, a label is learnt last, or not at all.
_RARE = 0.5

logger = logging.getLogger(__name__)


def count_of_each(task: LabellingTask, labels: pl.Series) -> dict[str, int]:
    """Count the rows of each of the task's labels, in the order of the task."""
    found = dict(labels.value_counts().iter_rows())
    return {label: found.get(label, 0) for label in task.labels}


def shares_of(counts: Mapping[str, int]) -> dict[str, float]:
    """Return the share of each label, or nothing where there are no rows."""
    total = sum(counts.values())
    return {label: count / total for label, count in counts.items()} if total else {}


def tell_rarest(what: str, counts: Mapping[str, int], helps: str) -> dict[str, str | int]:
    """Log and return the rarest label, how many rows it has and of how many; say what helps where it is rare."""
    rows, total = min(counts.values()), sum(counts.values())
    label = next(label for label, count in counts.items() if count == rows)
    rare = rows * len(counts) < _RARE * total
    logger.info("%s: the rarest label, %r, has %d of %d rows%s", what, label, rows, total, f"; {helps}" if rare else "")
    return {"label": label, "rows": rows, "of": total}


def tell_gold(task: LabellingTask, what: str, rows: pl.DataFrame) -> None:
    """Log how many rows teach and judge the rarest label, and where a gate asks for more than gold itself has."""
    for split, helps in (("train", WEIGHTS_HELP), ("test", _MORE_GOLD)):
        counts = count_of_each(task, rows.filter(pl.col("split") == split)["label"])
        if any(counts.values()):
            tell_rarest(f"{what}, {split} rows", counts, helps)
    shares = shares_of(count_of_each(task, rows["label"]))
    for label, floor in task.share_floors(shares).items():
        if shares.get(label, floor) < floor:
            logger.warning(
                "%s: %.4f of the rows are %r and gates.min_label_share asks for %g, which an encoder without a fault "
                "would not reach: lower it for this label", what, shares[label], label, floor,
            )  # fmt: skip


def never_given(shares: Mapping[str, float], counts: Mapping[str, int]) -> list[str]:
    """Return the labels that rows have and that an encoder gives to none of them."""
    return [label for label, count in counts.items() if count and not shares[label]]


def tell_never_given(task: LabellingTask, metrics: Mapping[str, float], test: pl.DataFrame) -> list[str]:
    """Return the labels that an encoder gives to none of the gold rows that it was measured on, and warn of them."""
    counts = count_of_each(task, test["label"])
    labels = never_given({label: metrics[f"gold.predicted_share.{label}"] for label in task.labels}, counts)
    for label in labels:
        logger.warning("gold: %r is never given, though %d of %d rows are", label, counts[label], test.height)
    return labels
