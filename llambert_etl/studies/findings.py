"""What a study says beyond its figures: how many labels are enough, how much noise is bearable, which is better."""

import statistics
from collections.abc import Sequence
from itertools import takewhile

import polars as pl
from scipy.stats import binomtest

from llambert_etl.studies.curve import Advice, advise
from llambert_etl.studies.plan import StudyPlan
from llambert_etl.studies.summary import Line, Scored, differences, interval

# Accuracy that wrong labels may cost before they count as too many.
_BEARABLE = 0.01

Findings = dict[str, str]


def of_strategies(outcomes: Sequence[Scored]) -> Findings:
    """Compare every strategy with the first, seed by seed."""
    return {
        name: f"{100 * mean:+.2f} points" + ("" if half is None else f" ± {100 * half:.2f}")
        for name, mean, half in differences(outcomes)
    }


def of_size(outcomes: Sequence[Scored], plan: StudyPlan, test: pl.DataFrame) -> Findings:
    """Say for each kind of label how many are enough; none where all of them teach nothing that `test` shows."""
    curves: dict[str, dict[int, list[float]]] = {}
    for outcome in outcomes:
        curves.setdefault(outcome.series, {}).setdefault(int(outcome.x or 0), []).append(outcome.accuracy)
    guessed = _guessed(test)
    return {
        name: _advice(advise(measured, plan.size.worth), plan.size.worth)
        if max(map(statistics.mean, measured.values())) > guessed
        else f"nothing learnt at any size: no better than the commonest label for every text, {guessed:.1%}"
        for name, measured in curves.items()
    }


def of_mislabelling(lines: Sequence[Line], judged: pl.DataFrame, test: pl.DataFrame) -> Findings:
    """Say how many wrong labels each way of training bears, and how often the annotator itself is wrong.

    Nothing is borne by one that is no better on `test` than to give each row the commonest label.
    """
    guessed = _guessed(test)
    found: Findings = {}
    for series in dict.fromkeys(line.series for line in lines):
        own = sorted((line for line in lines if line.series == series), key=lambda line: line.x or 0)
        found[series] = (
            f"bears {100 * _borne(own):.4g}% wrong labels at a cost of one point at most"
            if own[0].accuracy > guessed
            else "has learnt nothing even from right labels: give it more rows or epochs"
        )
    if judged.height:
        wrong = judged.filter(pl.col("label") != pl.col("said")).height
        bounds = binomtest(wrong, judged.height).proportion_ci(0.95, method="wilson")
        found["annotator"] = f"wrong on {wrong / judged.height:.1%} of gold ({bounds.low:.1%} to {bounds.high:.1%})"
    return found


def _guessed(test: pl.DataFrame) -> float:
    """Return the accuracy of one that says the commonest label of every row."""
    counts: list[int] = test["label"].value_counts()["count"].to_list()
    return max(counts) / test.height


def _borne(lines: Sequence[Line]) -> float:
    """Return the last share of wrong labels before the first that costs too much; the first line has none of them.

    A larger share that happens to cost less says nothing for it.
    """
    least = lines[0].accuracy - _BEARABLE
    *_, last = takewhile(lambda line: line.accuracy >= least, lines)
    return last.x or 0.0


def of_prompts(name: str, shots: float | None, best: pl.DataFrame, own: pl.DataFrame) -> Findings:
    """Say which prompt was best, and how good it is on the test split beside the task's own (McNemar's exact test)."""
    better, worse = int((_right(best) & ~_right(own)).sum()), int((_right(own) & ~_right(best)).sum())
    p = binomtest(better, better + worse).pvalue if better + worse else 1.0
    low, high = interval([right(best)], best.height)
    return {
        "best by the train split": f"{name} with {shots or 0:g} shots",
        "on the test split": f"{right(best):.1%} right ({low:.1%} to {high:.1%}, n = {best.height:,})",
        "the task's own prompt": f"{right(own):.1%} right on the same documents; McNemar p = {p:.3g}",
    }


def right(answers: pl.DataFrame) -> float:
    """Return the share of documents of which the label that was `said` is that of people; no label is not right."""
    return int(_right(answers).sum()) / answers.height


def _right(answers: pl.DataFrame) -> pl.Series:
    return (answers["label"] == answers["said"]).fill_null(value=False)


def _advice(advice: Advice | None, worth: float) -> str:
    if advice is None:
        return "three sizes or more, not all close together, are needed for a curve"
    if advice.enough is None:
        return (
            f"{advice.largest:,} labels are not enough: the last doubling gained {100 * advice.gained:.2f} points, the "
            f"next should gain {100 * advice.gain:.2f}"
        )
    low = "more" if advice.low is None else f"{advice.low:,}"
    high = "more" if advice.high is None else f"{advice.high:,}"
    between = f"{low} to {high}" if advice.seeds > 1 else "by one seed"
    return f"{advice.enough:,} labels are enough ({between}): then doubling gains less than {100 * worth:g} points"
