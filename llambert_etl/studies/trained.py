"""The studies that train: strategies, sizes and wrong labels."""

import logging
from collections.abc import Sequence

from llambert_etl.config import StudyKind
from llambert_etl.lake import Tables
from llambert_etl.studies import findings
from llambert_etl.studies.data import Pools, read_pools
from llambert_etl.studies.design import DESIGNS, check
from llambert_etl.studies.points import Measured, Point, Points
from llambert_etl.studies.subject import Progress, Result, Subject
from llambert_etl.studies.summary import Scored, summarise

logger = logging.getLogger(__name__)


def train(kind: StudyKind, subject: Subject, tables: Tables, progress: Progress) -> Result:
    """Train what was not trained before for this or another study, and measure it on the test split of gold."""
    task = subject.task
    pools = read_pools(task, subject.partition, tables, subject.prompt_hash)
    points = DESIGNS[kind](task, subject.plan, pools)
    check(task, points)
    store = Points(task, pools.test, subject.lake, subject.settings)
    known = [store.find(point) for point in points]
    new = known.count(None)
    logger.info("study of %s for %s: %s points, %s measured before", kind, task.name, len(points), len(points) - new)
    outcomes = _measured(store, points, known, progress)
    rows = {"read": len(points), "measured": new, "measured_before": len(points) - new}
    return Result(outcomes, _findings(kind, subject, pools, outcomes), rows)


def _measured(
    store: Points, points: Sequence[Point], known: Sequence[Measured | None], progress: Progress
) -> list[Scored]:
    """Measure the longest trainings first: what one stage of them gives is a point of its own, and comes for free."""
    found = {}
    for number in sorted(range(len(points)), key=lambda number: -len(points[number].stages)):
        point = points[number]
        measured = known[number] or store.measure(point)
        found[number] = Scored(
            series=point.series,
            x=point.x,
            seed=point.recipe.seed,
            accuracy=measured.accuracy,
            macro_f1=measured.macro_f1,
            tested=measured.tested,
            details={"rows": " then ".join(f"{stage.height:,}" for stage in point.stages)},
        )
        progress(len(found), len(points))
    return [found[number] for number in range(len(points))]


def _findings(kind: StudyKind, subject: Subject, pools: Pools, outcomes: Sequence[Scored]) -> findings.Findings:
    if kind == "size":
        return findings.of_size(outcomes, subject.plan, pools.test)
    if kind == "mislabelling":
        return findings.of_mislabelling(summarise(outcomes), pools.judged, pools.test)
    return findings.of_strategies(outcomes)
