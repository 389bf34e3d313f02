"""How far people agree with each other and with the two models, and how often the labels are right."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from llambert_etl.facts import Agreed
from llambert_etl.reviews.reviewed import Consensus, Reviewed, Stratum

# The annotators with the most answers are compared in pairs; a report has no room for more pairs.
MAX_PEOPLE = 8
_RESAMPLES = 1_000
_SEED = 42
_PERCENTILES = (2.5, 97.5)

# annotator -> what was said of each document, None where nothing was
Said = Mapping[str, Sequence[str | None]]


def report(reviewed: Sequence[Reviewed]) -> Agreed:
    """Return what these reviews say, small enough for a manifest.

    People are compared on all documents. The models are compared with them on the random share only: the errors and
    the disagreements were chosen because the models are doubtful there.
    """
    random = [each for each in reviewed if Stratum.RANDOM in each.strata]
    return Agreed(
        asked={stratum: sum(stratum in each.strata for each in reviewed) for stratum in Stratum},
        outcomes={outcome: sum(each.outcome == outcome for each in reviewed) for outcome in Consensus},
        verdicts=_verdicts(reviewed),
        sides=_sides([each for each in reviewed if Stratum.ERRORS in each.strata]),
        agreement={
            "people": _between_people(_said(reviewed)),
            "encoder": _with_model(_said(random), "encoder", [each.label for each in random]),
            "llm": _with_model(_said(random), "llm", [each.annotation for each in random]),
        },
        accuracy={
            "encoder": accuracy([(each.label, each.verdict) for each in random]),
            "llm": accuracy([(each.annotation, each.verdict) for each in random]),
        },
    )


def _verdicts(reviewed: Sequence[Reviewed]) -> dict[str, JsonValue]:
    """Count by stratum, the encoder's label and what people say: the paper's table."""
    found: dict[str, JsonValue] = {}
    for stratum in Stratum:
        here = [each for each in reviewed if stratum in each.strata and each.outcome != Consensus.WAITING]
        found[stratum] = {
            label: dict(sorted(Counter(each.verdict or each.outcome for each in here if each.label == label).items()))
            for label in sorted({each.label for each in here})
        }
    return found


def _sides(errors: Iterable[Reviewed]) -> dict[str, int]:
    """Say whom people side with where the encoder's label is not gold's."""
    return dict(Counter(_side(each) for each in errors if each.outcome != Consensus.WAITING))


def _side(error: Reviewed) -> str:
    if error.verdict is None:
        return error.outcome
    return {error.label: "encoder", error.gold: "gold"}.get(error.verdict, "neither")


def _said(reviewed: Sequence[Reviewed]) -> dict[str, list[str | None]]:
    """Return the answers of those who gave the most."""
    counts = Counter(answer.annotator for each in reviewed for answer in each.answers)
    given = [{answer.annotator: answer.answer for answer in each.answers} for each in reviewed]
    return {name: [answers.get(name) for answers in given] for name, _ in counts.most_common(MAX_PEOPLE)}


def _between_people(said: Said) -> dict[str, JsonValue]:
    return {"alpha": alpha(said), "kappa": [_pair(said, *pair) for pair in combinations(said, 2)]}


def _with_model(people: Said, model: str, judged: Sequence[str | None]) -> dict[str, JsonValue]:
    """Take a model for one more annotator."""
    said = {**people, model: judged}
    return {"alpha": alpha(said), "kappa": [_pair(said, name, model) for name in people]}


def _pair(said: Said, one: str, other: str) -> dict[str, JsonValue]:
    return {"between": [one, other], **kappa(said[one], said[other])}


def kappa(one: Sequence[str | None], other: Sequence[str | None]) -> dict[str, JsonValue]:
    """Return Cohen's kappa over what both have judged: n, value and a 95 % interval; null where it has none."""
    from sklearn.metrics import cohen_kappa_score, confusion_matrix

    both = [(mine, theirs) for mine, theirs in zip(one, other, strict=True) if mine is not None and theirs is not None]
    values = sorted({value for pair in both for value in pair})
    if len(values) < 2:
        return {"n": len(both), "value": None, "low": None, "high": None}
    mine, theirs = zip(*both, strict=True)
    cells = confusion_matrix(mine, theirs, labels=values)
    # Drawing documents again is drawing the cells of this table again, all samples at once.
    drawn = np.random.default_rng(_SEED).multinomial(len(both), cells.ravel() / len(both), size=_RESAMPLES)
    resampled = _kappas(drawn.reshape(-1, len(values), len(values)))
    return {"n": len(both), **_estimate(cohen_kappa_score(mine, theirs, labels=values), resampled)}


def _kappas(tables: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    n = tables.sum(axis=(1, 2))
    observed = np.trace(tables, axis1=1, axis2=2) / n
    expected = (tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1) / n**2
    with np.errstate(invalid="ignore"):  # a sample in which both always say the same has no kappa
        return np.asarray((observed - expected) / (1 - expected))


def alpha(said: Said) -> dict[str, JsonValue]:
    """Return Krippendorff's nominal alpha of all together: n, value and a 95 % interval; null where it has none."""
    documents = list(zip(*said.values(), strict=True))
    values = sorted({value for document in documents for value in document if value is not None})
    counts = np.asarray([[document.count(value) for value in values] for document in documents], dtype=np.int64)
    counts = counts.reshape(len(documents), len(values))
    counts = counts[counts.sum(axis=1) > 1]  # what one alone has judged says nothing about agreement
    if np.count_nonzero(counts.sum(axis=0)) < 2:
        return {"n": len(counts), "value": None, "low": None, "high": None}
    generator = np.random.default_rng(_SEED)
    samples = (counts[generator.integers(len(counts), size=len(counts))] for _ in range(_RESAMPLES))
    return {"n": len(counts), **_estimate(_alpha(counts), np.asarray([_alpha(sample) for sample in samples]))}


def _alpha(counts: npt.NDArray[np.int64]) -> float:
    import krippendorff

    if np.count_nonzero(counts.sum(axis=0)) < 2:
        return float("nan")
    return float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))


def _estimate(value: float, resampled: npt.NDArray[np.float64]) -> dict[str, JsonValue]:
    low, high = np.nanpercentile(resampled, _PERCENTILES)
    return {"value": round(float(value), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def accuracy(pairs: Iterable[tuple[str | None, str | None]]) -> dict[str, JsonValue]:
    """Return how often a label is people's verdict, with a Wilson interval (95 %): over `n` verdicts of `of` labels."""
    from scipy.stats import binomtest

    labelled = [(label, verdict) for label, verdict in pairs if label is not None]
    both = [(label, verdict) for label, verdict in labelled if verdict is not None]
    if not both:
        return {"n": 0, "of": len(labelled), "value": None, "low": None, "high": None}
    test = binomtest(sum(label == verdict for label, verdict in both), len(both))
    interval = test.proportion_ci(method="wilson")
    return {
        "n": len(both),
        "of": len(labelled),
        "value": round(test.statistic, 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
    }
