"""What promoting a candidate would change: both versions on the same gold rows, and the labels that would be others."""

import logging
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import binomtest, bootstrap

from llambert_etl.config import LabellingTask
from llambert_etl.corpus.documents import among, verified
from llambert_etl.encoder.inference import Encoder
from llambert_etl.encoder.metrics import Evaluation, Measurement, measure
from llambert_etl.facts import Changes, Comparison, Gain, Side
from llambert_etl.lake import Lake, collect
from llambert_etl.registry import ModelVersion, Registry
from llambert_etl.schemas import DocumentStatus

logger = logging.getLogger(__name__)

# Labels that are looked at, and changes that are shown.
SAMPLE = 2_000
_PAIRS = 8
_RESAMPLES = 1_000

Classes = npt.NDArray[np.int64]
Statistic = Callable[[Classes, Classes], float]


def compare(
    task: LabellingTask,
    gold: pl.DataFrame,
    candidate: ModelVersion,
    champion: ModelVersion | None,
    *,
    lake: Lake,
    registry: Registry,
    sample: int = SAMPLE,
) -> Comparison:
    """Return what gold says of both, how sure their difference is, and how many served labels the candidate changes."""
    names = task.label_names
    encoder = Encoder.load(registry.download(candidate))
    sides: dict[str, Side] = {}
    measured: dict[str, Measurement] = {}
    for side, version in (("candidate", candidate), ("champion", champion)):
        if version is None or version.labels != names:
            continue
        model = encoder if version is candidate else Encoder.load(registry.download(version))
        measured[side] = measure(model, gold, names)
        sides[side] = _side(version, measured[side].evaluation, registry)
    return Comparison(
        champion=sides.get("champion"),
        candidate=sides["candidate"],
        gold=gold.height,
        gain=_gain(measured["candidate"], measured["champion"], task) if len(measured) == 2 else None,
        changes=_changes(task, encoder, lake, sample),
    )


def _side(version: ModelVersion, found: Evaluation, registry: Registry) -> Side:
    return Side(
        version=version.version,
        trained_upto=version.partition,
        strategy=registry.parameters(version).get("strategy"),
        accuracy=round(found.accuracy, 4),
        macro_f1=round(found.macro_f1, 4),
        **{name: round(value, 4) for name, value in asdict(found.honesty).items()},
        f1={label: round(scores.f1, 4) for label, scores in found.per_class.items()},
    )


def _gain(of_candidate: Measurement, of_champion: Measurement, task: LabellingTask) -> Gain:
    """Return each difference with its 95 % interval over gold rows, and McNemar's exact p."""
    truth, candidate, champion = of_candidate.truth, of_candidate.predicted, of_champion.predicted
    classes = len(task.labels)

    def macro_f1(true: Classes, found: Classes) -> float:
        table = np.bincount(true * classes + found, minlength=classes**2).reshape(classes, classes)
        total = table.sum(axis=0) + table.sum(axis=1)
        return float(np.mean(2 * table.diagonal() / np.maximum(total, 1)))

    def accuracy(true: Classes, found: Classes) -> float:
        return float(np.mean(true == found))

    only_candidate = int(np.sum((candidate == truth) & (champion != truth)))
    only_champion = int(np.sum((champion == truth) & (candidate != truth)))
    differ = only_candidate + only_champion
    rows = (truth, candidate, champion)
    return Gain(
        accuracy=_difference(accuracy, rows, task.encoder.seed),
        macro_f1=_difference(macro_f1, rows, task.encoder.seed),
        p=round(float(binomtest(only_candidate, differ).pvalue), 4) if differ else 1.0,
    )


def _difference(statistic: Statistic, rows: tuple[Classes, Classes, Classes], seed: int) -> tuple[float, float, float]:
    """Return the candidate's statistic less the champion's, and the ends of its interval."""

    def less(true: Classes, candidate: Classes, champion: Classes) -> float:
        return statistic(true, candidate) - statistic(true, champion)

    drawn = bootstrap(
        rows, less, paired=True, vectorized=False, n_resamples=_RESAMPLES, method="percentile", rng=seed
    ).confidence_interval
    value, low, high = (round(float(value), 4) for value in (less(*rows), drawn.low, drawn.high))
    return value, low, high


def _changes(task: LabellingTask, encoder: Encoder, lake: Lake, sample: int) -> Changes:
    """Count the served labels that the candidate gives otherwise, in a seeded sample, and scale to all of them."""
    names = task.label_names
    tables = lake.snapshot("labels", "documents")
    served = tables.scan("labels", task.name).select("partition", "id", "text_hash", "label")
    keys = collect(served.select("partition", "id").sort("partition", "id"))
    chosen = keys.sample(min(sample, keys.height), seed=task.encoder.seed)
    accepted = tables.scan("documents", task.name).filter(pl.col("status") == DocumentStatus.ACCEPTED)
    texts = accepted.select("partition", "id", "text_hash", "text")
    found = chosen.lazy().join(among(served, chosen["id"]), on=["partition", "id"])
    found = found.join(among(texts, chosen["id"]), on=["partition", "id", "text_hash"]).sort("partition", "id")
    rows = verified(collect(found), "documents")
    said = [names[best] for best in encoder.predict(rows["text"].to_list()).argmax(axis=1)] if rows.height else []
    others = rows.select("label", becomes=pl.Series(said, dtype=pl.String)).filter(pl.col("label") != pl.col("becomes"))
    pairs = others.group_by("label", "becomes").len().sort(["len", "label", "becomes"], descending=[True, False, False])
    logger.info("%d of %d sampled labels would change, of %d", others.height, rows.height, keys.height)
    low, high = _share(others.height, rows.height, whole=rows.height == keys.height)
    return Changes(
        labels=keys.height,
        sample=rows.height,
        changed=others.height,
        low=round(low * keys.height),
        high=round(high * keys.height),
        pairs=pairs.head(_PAIRS).rows(),
    )


def _share(count: int, of: int, *, whole: bool) -> tuple[float, float]:
    """Return the 95 % interval of a share; it has no width where everything was looked at."""
    if of == 0 or whole:
        return (count / max(of, 1),) * 2
    found = binomtest(count, of).proportion_ci(method="wilson")
    return float(found.low), float(found.high)
