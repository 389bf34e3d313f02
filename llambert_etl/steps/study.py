"""Run one kind of study as of a partition; leave its table and its plot in MLflow and in a folder."""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue

from llambert_etl.config import StudyKind, fingerprint
from llambert_etl.errors import ConfigError
from llambert_etl.manifest import Manifest
from llambert_etl.registry import Registry, RunMetric
from llambert_etl.store.space import room_in
from llambert_etl.studies.asked import ASKED, ask
from llambert_etl.studies.report import plot, table
from llambert_etl.studies.subject import Progress, Result, Subject
from llambert_etl.studies.summary import Line, summarise
from llambert_etl.studies.trained import train

# What MLflow refuses in the name of a metric.
_ODD = re.compile(r"[^\w\-. /]")


def study(
    kind: StudyKind,
    subject: Subject,
    *,
    registry: Registry | None,
    out: Path,
    progress: Progress = lambda done, total: None,
) -> Manifest:
    """Measure what the plan varies, seed by seed; write study.json, table.md and plot.png into `out` and into MLflow.

    A point that was measured before, by this study or by another, is not trained again: a study that was cut off goes
    on where it was. Nothing here changes what is labelled, or by which encoder.
    """
    with _faults(out):  # before anything is trained or paid for
        out.mkdir(parents=True, exist_ok=True)
    # What asking has come to is read as it is then, other runs' answers too.
    tables = subject.lake.snapshot("gold", *(() if kind in ASKED else ("documents", "annotations")))
    result = (ask if kind in ASKED else train)(kind, subject, tables, progress)
    lines = summarise(result.outcomes)
    task, plan = subject.task, subject.plan
    facts: dict[str, JsonValue] = {
        "kind": kind,
        "seeds": list(plan.seeds),
        "findings": dict(result.findings),
        "encoder": task.encoder.model,
        "annotator": task.annotator.model,
        "accuracy": {_named(line): round(line.accuracy, 4) for line in lines},
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _write(f"{task.name}: {kind}", kind, result, lines, facts, folder)
        if registry is not None:
            facts["mlflow_run"] = _log(kind, subject, lines, facts, registry, folder)
        with _faults(out):
            shutil.copytree(folder, out, dirs_exist_ok=True)
    facts["folder"] = str(out)
    return subject.run.manifest(
        "study", rows=result.rows, versions_read=tables.versions, tokens=result.tokens, cost=result.usd, facts=facts
    )


@contextmanager
def _faults(out: Path) -> Iterator[None]:
    try:
        with room_in(out):
            yield
    except OSError as error:
        raise ConfigError(f"study folder {str(out)!r} cannot be written: {error}; give another by --out") from error


def _write(
    title: str, kind: StudyKind, result: Result, lines: Sequence[Line], facts: dict[str, JsonValue], folder: Path
) -> None:
    said = "".join(f"- {name}: {finding}\n" for name, finding in result.findings.items())
    record = {
        **facts,
        "lines": [line._asdict() for line in lines],
        "outcomes": [each._asdict() for each in result.outcomes],
    }
    (folder / "table.md").write_text(f"# {title}\n\n{table(kind, lines)}\n{said}", encoding="utf-8")
    (folder / "study.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    plot(title, kind, lines, folder / "plot.png")


def _log(
    kind: StudyKind,
    subject: Subject,
    lines: Sequence[Line],
    facts: dict[str, JsonValue],
    registry: Registry,
    folder: Path,
) -> str:
    task, partition = subject.task, subject.partition
    params = {"kind": kind, "partition": partition, "seeds": str(subject.plan.seeds), "encoder": task.encoder.model}
    measured = [
        RunMetric(f"{name}.{_ODD.sub('_', line.series)}", value, _step(kind, line.x))
        for line in lines
        for name, value in (("accuracy", line.accuracy), ("macro_f1", line.macro_f1))
    ]
    return registry.log_study(task.name, kind, fingerprint([partition, facts]), params, measured, folder)


def _step(kind: StudyKind, x: float | None) -> int:
    """Return a whole number for the server's charts: labels as they are, shares in percent."""
    return 0 if x is None else round(100 * x) if kind == "mislabelling" else round(x)


def _named(line: Line) -> str:
    return line.series if line.x is None else f"{line.series} at {line.x:g}"
