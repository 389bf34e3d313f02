"""The promotion gate: what is expected of a candidate on gold, and beside the champion that it is to follow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from llambert_etl.champion.moves import Champion
from llambert_etl.champion.scores import Score
from llambert_etl.config import LabellingTask
from llambert_etl.corpus.rare import count_of_each, never_given, shares_of
from llambert_etl.quality import Outcome
from llambert_etl.registry import ModelVersion

# Failures that are told: a reason goes to a tag of MLflow and to a pod's last words, and both are short.
_MOST = 5


@dataclass(frozen=True)
class Verdict:
    """`refused`: it may not label at all. `kept`: it may, and the champion stays all the same."""

    decision: Literal["refused", "kept", "promoted"]
    reason: str

    def __str__(self) -> str:
        return f"{self.decision}: {self.reason}"


def judge(
    task: LabellingTask,
    gold: pl.DataFrame,
    candidate: ModelVersion,
    own: Score,
    champion: Champion,
    before: ModelVersion | None,
    other: Score | None,
) -> Verdict:
    """Hold the gate. `before` is whom the candidate is to follow, `other` what that one scores on the same labels."""
    if unfit := [outcome for outcome in to_label(task, own, gold) if not outcome.passed]:
        return Verdict("refused", _told(unfit))
    if champion.withdrawn(candidate.version):
        return Verdict("kept", f"{champion.standing.doubt}, and only --to {candidate.version} puts it back")
    if before is None:
        which = "the first champion" if champion.last is None else f"version {champion.last.to} is there no more"
        return Verdict("promoted", f"{which}, gold macro F1 {own.gold_f1_macro:.4f}")
    outcomes = _to_follow(task, candidate, own, champion.as_of(before), other)
    if behind := [outcome for outcome in outcomes if not outcome.passed]:
        return Verdict("kept", _told(behind))
    if other is None:
        return Verdict("promoted", f"the champion has other labels, {list(before.labels)}")
    return Verdict("promoted", f"gold macro F1 {own.gold_f1_macro:.4f} against {other.gold_f1_macro:.4f}")


def to_label(task: LabellingTask, score: Score, gold: pl.DataFrame) -> list[Outcome]:
    """Return what became of each expectation of whoever is to label; of shares, that missed by most comes first."""
    counts = count_of_each(task, gold["label"])
    rows, known, gates = gold.height, shares_of(counts), task.gates
    never, floors = never_given(score.shares, counts), task.share_floors(known)

    def f1(label: str) -> str:
        unseen = ", which it never gives" if label in never else ""
        return f"{score.f1[label]:.4f} on {counts[label]} of {rows} rows{unseen}"

    def share(label: str) -> Outcome:
        # What even an encoder without a fault would be refused for is a fault of the gate.
        fit = f", of which gold itself has {known[label]:.4f}: lower it" if known[label] < floors[label] else ""
        return _at_least(
            f"share of gold given {label!r}", score.shares[label], floors[label], f"gates.min_label_share{fit}"
        )

    worst = min(score.f1, key=lambda label: score.f1[label])
    used = sum(share > 0 for share in score.shares.values())
    return [
        _at_least(
            "gold macro F1", score.gold_f1_macro, gates.min_gold_f1, "gates.min_gold_f1", f" ({worst!r}: {f1(worst)})"
        ),
        *(
            Outcome(f"gold F1 of {label!r}", f1(label), f">= {floor:g} (gates.min_label_f1)", score.f1[label] >= floor)
            for label, floor in task.f1_floors().items()
        ),
        *map(share, sorted(task.labels, key=lambda label: score.shares[label] - floors[label])),
        # Stands by itself: a task may set its floor to 0.
        Outcome("labels in use", f"{used}", ">= 2", used >= 2 or sum(count > 0 for count in counts.values()) < 2),
    ]


def _to_follow(
    task: LabellingTask, candidate: ModelVersion, own: Score, as_of: str, other: Score | None
) -> list[Outcome]:
    """Return what became of each expectation of whoever is to follow a champion that counts as of a day."""
    expected = f">= {as_of}, as of which the champion was trained (a backfill never goes back)"
    outcomes = [Outcome("trained as of", candidate.partition, expected, candidate.partition >= as_of)]
    if other is None:
        return outcomes
    gain, least = own.gold_f1_macro - other.gold_f1_macro, task.gates.min_gain
    observed = f"{gain:.4f} ({own.gold_f1_macro:.4f} against {other.gold_f1_macro:.4f})"
    return [*outcomes, Outcome("gain in gold macro F1", observed, f"> {least:g} (gates.min_gain)", gain > least)]


def _at_least(name: str, observed: float, limit: float, gate: str, said: str = "") -> Outcome:
    return Outcome(name, f"{observed:.4f}{said}", f">= {limit:.4g} ({gate})", observed >= limit)


def _told(failed: Sequence[Outcome]) -> str:
    more = len(failed) - _MOST
    return "; ".join(outcome.sentence() for outcome in failed[:_MOST]) + (f"; and {more} more" if more > 0 else "")
