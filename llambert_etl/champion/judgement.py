"""What gold says of an encoder, and whether that is enough to label: the gates on its F1 and on its label shares."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import polars as pl

from llambert_etl.config import LabellingTask
from llambert_etl.corpus.rare import count_of_each, never_given, shares_of
from llambert_etl.registry import ModelVersion

if TYPE_CHECKING:
    from llambert_etl.encoder.metrics import Evaluation


@dataclass(frozen=True)
class Score:
    """`f1` and `shares` are by label: its F1, and the part of gold that is given it."""

    gold_f1_macro: float
    gold_accuracy: float
    f1: dict[str, float]
    shares: dict[str, float]

    @classmethod
    def of(cls, found: "Evaluation") -> Self:
        f1 = {label: scores.f1 for label, scores in found.per_class.items()}
        return cls(found.macro_f1, found.accuracy, f1, found.predicted_shares)


def measured(version: ModelVersion) -> Score | None:
    """Return what was found when the version was trained, or None where not all of it was kept."""
    known = version.metrics
    try:
        f1, shares = (
            {label: known[f"gold.{name}.{label}"] for label in version.labels} for name in ("f1", "predicted_share")
        )
        return Score(known["gold.macro_f1"], known["gold.accuracy"], f1, shares)
    except KeyError:
        return None


def refusal(task: LabellingTask, score: Score, gold: pl.DataFrame) -> str | None:
    """Say why an encoder may not label at all, naming the label and the gate, or return None."""
    counts = count_of_each(task, gold["label"])
    return _low_f1(task, score, counts) or _collapsed(task, score.shares, counts)


def _low_f1(task: LabellingTask, score: Score, counts: Mapping[str, int]) -> str | None:
    gates, floors = task.gates, task.f1_floors()
    if score.gold_f1_macro < gates.min_gold_f1:
        worst = min(score.f1, key=lambda label: score.f1[label])
        return (
            f"gold macro F1 is {score.gold_f1_macro:.4f}, expected {gates.min_gold_f1} or more (gates.min_gold_f1); "
            f"that of {_f1(worst, score, counts)}"
        )
    for label in task.labels:
        if score.f1[label] < floors[label]:
            return f"gold F1 of {_f1(label, score, counts)}, expected {floors[label]} or more (gates.min_label_f1)"
    return None


def _f1(label: str, score: Score, counts: Mapping[str, int]) -> str:
    rows = f"{counts[label]} of {sum(counts.values())} rows"
    never = ", which it never gives" if label in never_given(score.shares, counts) else ""
    return f"{label!r} is {score.f1[label]:.4f} on {rows}{never}"


def _collapsed(task: LabellingTask, shares: Mapping[str, float], counts: Mapping[str, int]) -> str | None:
    known = shares_of(counts)
    floors = task.share_floors(known)
    label = min(shares, key=lambda label: shares[label] - floors[label])
    if shares[label] < floors[label]:
        said = f"collapsed: it gives {label!r} to {shares[label]:.4f} of gold, expected {floors[label]:.4g} or more"
        # What even an encoder without a fault would be refused for is a fault of the gate.
        fit = f", of which gold itself has {known[label]:.4f}: lower it" if known[label] < floors[label] else ""
        return f"{said} (gates.min_label_share{fit})"
    # Stands by itself: a task may set its floor to 0.
    if sum(share > 0 for share in shares.values()) < 2 and sum(count > 0 for count in counts.values()) > 1:
        return "collapsed: it gives one label to all of gold, expected two or more"
    return None
