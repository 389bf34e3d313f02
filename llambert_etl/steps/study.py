"""Run one kind of study as of a partition; leave its table and its plot in MLflow and in a folder."""

import datetime
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import JsonValue

from llambert_etl.config import LabellingTask, StudyKind, fingerprint
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.registry import Measurement, Registry
from llambert_etl.schemas import TableName
from llambert_etl.settings import Settings
from llambert_etl.studies import findings
from llambert_etl.studies.data import Pools, read_pools
from llambert_etl.studies.design import DESIGNS, check
from llambert_etl.studies.plan import StudyPlan
from llambert_etl.studies.points import Point, Points
from llambert_etl.studies.report import plot, table
from llambert_etl.studies.summary import Line, Outcome, summarise

logger = logging.getLogger(__name__)

_READ: tuple[TableName, ...] = ("documents", "annotations", "gold")
# What MLflow refuses in the name of a metric.
_ODD = re.compile(r"[^\w\-. /]")


def study(
    task: LabellingTask,
    partition: Partition,
    kind: StudyKind,
    *,
    run: str,
    lake: Lake,
    registry: Registry | None,
    settings: Settings,
    prompt_hash: str,
    plan: StudyPlan,
    out: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Manifest:
    """Measure what the plan varies, seed by seed; write study.json, table.md and plot.png into `out` and into MLflow.

    A point that was measured before, by this study or by another, is not trained again: a study that was cut off goes
    on where it was. Nothing here changes what is labelled, or by which encoder.
    """
    started = datetime.datetime.now(datetime.UTC)
    pools = read_pools(task, partition, lake, prompt_hash)
    points = DESIGNS[kind](task, plan, pools)
    check(task, points)
    store = Points(task, pools.test, lake, settings)
    known = sum(store.known(point) for point in points)
    logger.info("study of %s for %s: %s points, %s measured before", kind, task.name, len(points), known)
    outcomes = _measured(store, points, progress)
    lines = summarise(outcomes)
    found = _findings(kind, plan, pools, outcomes, lines)
    facts: dict[str, JsonValue] = {
        "kind": kind,
        "seeds": list(plan.seeds),
        "findings": dict(found),
        "encoder": task.encoder.model,
        "annotator": task.annotator.model,
        "rows": {"gold": pools.gold.height, "tested": pools.test.height, "llm": pools.llm.height},
        "accuracy": {_named(line): round(line.accuracy, 4) for line in lines},
        "folder": str(out),
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _write(f"{task.name}: {kind}", kind, outcomes, lines, facts, found, folder)
        if registry is not None:
            facts["mlflow_run"] = _log(task, kind, partition, plan, lines, facts, registry, folder)
        shutil.copytree(folder, out, dirs_exist_ok=True)
    return Manifest(
        step="study",
        task=task.name,
        partition=partition,
        run=run,
        config_hash=task.config_hash,
        rows={"read": len(points), "measured": len(points) - known, "measured_before": known},
        versions_read={name: lake.version(name) for name in _READ},
    ).finished(started, facts=facts)


def _measured(store: Points, points: Sequence[Point], progress: Callable[[int, int], None]) -> list[Outcome]:
    """Measure the longest trainings first: what one stage of them gives is a point of its own, and comes for free."""
    found = {}
    for number in sorted(range(len(points)), key=lambda number: -len(points[number].stages)):
        point = points[number]
        measured = store.measure(point)
        found[number] = Outcome(
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


def _findings(
    kind: StudyKind, plan: StudyPlan, pools: Pools, outcomes: Sequence[Outcome], lines: Sequence[Line]
) -> findings.Findings:
    if kind == "size":
        return findings.of_size(outcomes, plan)
    if kind == "mislabelling":
        return findings.of_mislabelling(lines, pools.judged)
    return findings.of_strategies(outcomes)


def _write(
    title: str,
    kind: StudyKind,
    outcomes: Sequence[Outcome],
    lines: Sequence[Line],
    facts: dict[str, JsonValue],
    found: findings.Findings,
    folder: Path,
) -> None:
    shown = f"# {title}\n\n{table(kind, lines)}\n" + "".join(f"- {name}: {said}\n" for name, said in found.items())
    record = {**facts, "lines": [line._asdict() for line in lines], "outcomes": [each._asdict() for each in outcomes]}
    (folder / "table.md").write_text(shown, encoding="utf-8")
    (folder / "study.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    plot(title, kind, lines, folder / "plot.png")


def _log(
    task: LabellingTask,
    kind: StudyKind,
    partition: Partition,
    plan: StudyPlan,
    lines: Sequence[Line],
    facts: dict[str, JsonValue],
    registry: Registry,
    folder: Path,
) -> str:
    params = {"kind": kind, "partition": partition, "seeds": str(plan.seeds), "encoder": task.encoder.model}
    measured = [
        Measurement(f"{name}.{_ODD.sub('_', line.series)}", value, _step(kind, line.x))
        for line in lines
        for name, value in (("accuracy", line.accuracy), ("macro_f1", line.macro_f1))
    ]
    return registry.log_study(task.name, kind, fingerprint([partition, facts]), params, measured, folder)


def _step(kind: StudyKind, x: float | None) -> int:
    """Return a whole number for the server's charts: labels as they are, shares in percent."""
    return 0 if x is None else round(100 * x) if kind == "mislabelling" else round(x)


def _named(line: Line) -> str:
    return line.series if line.x is None else f"{line.series} at {line.x:g}"
