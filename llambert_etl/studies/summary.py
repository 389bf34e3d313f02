"""Means and intervals of a study, as rows for a table and a plot."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from scipy.stats import binomtest, t

_CONFIDENCE = 0.95


Details = dict[str, float | str]


class Scored(NamedTuple):
    """One measured point: accuracy and macro F1 on `tested` gold rows, with one seed (None: nothing is random)."""

    series: str
    x: float | None
    seed: int | None
    accuracy: float
    macro_f1: float
    tested: int
    details: Details


class Line(NamedTuple):
    """All seeds of one series at one x, each on the same `tested` gold rows.

    `low` and `high` bound the mean accuracy with 95 % confidence.
    """

    series: str
    x: float | None
    seeds: int
    accuracy: float
    low: float
    high: float
    macro_f1: float
    tested: int
    details: Details


def summarise(outcomes: Sequence[Scored]) -> list[Line]:
    """Join the seeds of each point, in the order in which points first appear."""
    together: dict[tuple[str, float | None], list[Scored]] = {}
    for outcome in outcomes:
        together.setdefault((outcome.series, outcome.x), []).append(outcome)
    return [_line(found) for found in together.values()]


def _line(found: Sequence[Scored]) -> Line:
    accuracies = [outcome.accuracy for outcome in found]
    low, high = interval(accuracies, found[0].tested)
    return Line(
        series=found[0].series,
        x=found[0].x,
        seeds=len(found),
        accuracy=statistics.mean(accuracies),
        low=low,
        high=high,
        macro_f1=statistics.mean(outcome.macro_f1 for outcome in found),
        tested=found[0].tested,
        details=found[0].details,
    )


def interval(accuracies: Sequence[float], tested: int) -> tuple[float, float]:
    """Bound a mean accuracy: Student's t over seeds, or Wilson's interval over the tested rows where there is one."""
    mean = statistics.mean(accuracies)
    if len(accuracies) == 1:
        bounds = binomtest(round(mean * tested), tested).proportion_ci(_CONFIDENCE, method="wilson")
        return float(bounds.low), float(bounds.high)
    half = spread(accuracies)
    return max(mean - half, 0.0), min(mean + half, 1.0)


def spread(values: Sequence[float]) -> float:
    """Return half the width of Student's interval around the mean of two values or more."""
    quantile = float(t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1))
    return quantile * statistics.stdev(values) / math.sqrt(len(values))


def differences(outcomes: Sequence[Scored]) -> list[tuple[str, float, float | None]]:
    """Compare each series with the first, seed by seed: (name, mean difference, half the interval's width)."""
    by_series: dict[str, dict[int | None, float]] = {}
    for outcome in outcomes:
        by_series.setdefault(outcome.series, {})[outcome.seed] = outcome.accuracy
    (first, base), *others = by_series.items()
    rows = []
    for name, accuracies in others:
        pairs = [accuracies[seed] - base[seed] for seed in base if seed in accuracies]
        half = spread(pairs) if len(pairs) > 1 else None
        rows.append((f"{name} - {first}", statistics.mean(pairs), half))
    return rows
