"""What a person looks at: the status screen and the doctor's list."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from llambert_etl.config import LabellingTask
from llambert_etl.registry import ModelVersion
from llambert_etl.steps.doctor import Finding
from llambert_etl.steps.explain import Origin
from llambert_etl.steps.status import Snapshots, Status

# Results of the screen commands go to the real stdout; while a command runs, sys.stdout is stderr.
_WIDTH = 110


def _console() -> Console:
    import sys

    # What is shown was written by people and models: `[/b]` and `:+1:` are no markup.
    width = None if sys.__stdout__ and sys.__stdout__.isatty() else _WIDTH
    return Console(file=sys.__stdout__, width=width, markup=False, emoji=False)


def show_status(status: Status) -> None:
    console = _console()
    console.print(Text(status.task.name, style="bold") + f": {status.task.description}")
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_row("documents", _counts(status.documents))
    if status.refusals:
        table.add_row("refused for", _counts(status.refusals))
    if status.never_ingested:
        table.add_row("never ingested", _some(status.never_ingested))
    table.add_row("annotations", _counts(status.annotations))
    table.add_row("gold", _counts(status.gold))
    table.add_row("labels", _counts(status.labels))
    if status.snapshots is not None:
        table.add_row("last published", _published(status.snapshots))
        table.add_row("last exported", _exported(status.snapshots))
        table.add_row("not exported yet", _some(status.snapshots.absent))
    table.add_row("champion", _champion(status))
    table.add_row("behind the champion", _some(status.behind))
    console.print(table)
    runs = Table("partition", "step", "run", "rows", "seconds", title="last commits", title_justify="left", box=None)
    for manifest in status.recent:
        runs.add_row(manifest.partition, manifest.step, manifest.run, _counts(manifest.rows), f"{manifest.seconds:.1f}")
    console.print(runs)


def show_origin(task: LabellingTask, origin: Origin) -> None:
    document, label, model = origin.document, origin.label, origin.model
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_row("task", f"{task.name}: {task.description}")
    table.add_row("document", f"{document['id']} of {document['partition']}, {document['status']}")
    table.add_row("read from", f"{document['source']}, {document['place']}, by run {document['run']}")
    if document["reason"]:
        table.add_row("refused for", document["reason"])
    table.add_row("text hash", document["text_hash"] or "none")
    for said in origin.annotations:
        answer = f"{said['label'] or said['status']} (it wrote {said['reply']!r}), asked by run {said['run']}"
        table.add_row("LLM says", f"{answer}; {said['model']} at {said['revision'][:12]}")
        table.add_row("", f"prompt {said['prompt_hash']}, parser {said['parser_version']}")
    for said in origin.gold:
        table.add_row("people say", f"{said['label']} ({said['split']}), {said['annotator'] or 'somebody'}")
    if label is None:
        table.add_row("label", "none yet")
    else:
        probabilities = ", ".join(f"{each['label']} {each['probability']:.4f}" for each in label["probabilities"])
        table.add_row("label", f"{label['label']} ({probabilities})")
        if label["text_hash"] != document["text_hash"]:
            table.add_row("", f"of another text, {label['text_hash']}: the document has changed since it was labelled")
        table.add_row("published by", f"run {label['run']}, task file {label['config_hash']}")
        table.add_row("gate", origin.gate or "")
    if model is not None:
        table.add_row("model", _version(model))
        table.add_row("trained", f"as of {model.partition}, MLflow run {model.run_id}, task file {model.config_hash}")
    for move in origin.promotions:
        table.add_row("champion by", f"{move['moved_by']} at {move['moved_at']:%Y-%m-%d %H:%M}: {move['reason']}")
    _console().print(table)


def show_checks(findings: Sequence[Finding]) -> None:
    table = Table("", "what", "seen", "mend", box=None)
    for finding in findings:
        mark = Text("ok", style="green") if finding.ok else Text("no", style="red")
        table.add_row(mark, finding.what, finding.seen, "" if finding.ok else finding.mend)
    _console().print(table)


def show_review(facts: Mapping[str, Any]) -> None:
    console = _console()
    table = Table(show_header=False, box=None, padding=(0, 2))
    for name in ("asked", "outcomes", "gold"):
        table.add_row(name, _counts(facts[name]))
    table.add_row("where it errs, people side with", _counts(facts["sides"]))
    for name, estimate in facts["accuracy"].items():
        table.add_row(f"accuracy of {name}, {estimate['of']} random", _estimate(estimate))
    for among, agreement in facts["agreement"].items():
        whom = "people" if among == "people" else f"people and {among}, random share"
        table.add_row(f"alpha of {whom}", _estimate(agreement["alpha"]))
        for pair in agreement["kappa"]:
            table.add_row(f"kappa of {' and '.join(pair['between'])}", _estimate(pair))
    console.print(table)
    verdicts = Table("chosen as", "encoder's label", "people's verdict", box=None)
    for stratum, by_label in facts["verdicts"].items():
        for label, counts in by_label.items():
            verdicts.add_row(stratum, label, _counts(counts))
    console.print(verdicts)
    console.print(f"report {facts['report']}", soft_wrap=True)


def _estimate(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return f"not known (n {found['n']})"
    return f"{found['value']:.4f} ({found['low']:.4f} to {found['high']:.4f}, n {found['n']})"


def _published(snapshots: Snapshots) -> str:
    commit = snapshots.published
    if commit is None or commit.manifest is None:
        return "nothing yet"
    return f"version {commit.version} of the labels, {commit.manifest.partition}"


def _exported(snapshots: Snapshots) -> str:
    file = snapshots.newest
    return "nothing yet" if file is None else f"version {file.labels_version} of the labels, {file.partition}"


def _champion(status: Status) -> str:
    if status.outage:
        return f"not known: {status.outage}"
    return "none yet" if status.champion is None else _version(status.champion)


def _version(version: ModelVersion) -> str:
    metrics = version.metrics
    shown = ", ".join(f"{name} {metrics[name]:.4f}" for name in ("gold.accuracy", "gold.macro_f1") if name in metrics)
    return f"{version.name} version {version.version} ({shown})"


def _some(days: Sequence[str], shown: int = 5) -> str:
    more = f" and {len(days) - shown} more" if len(days) > shown else ""
    return f"{len(days)} partition{'s' * (len(days) > 1)}: {', '.join(days[:shown])}{more}" if days else "none"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"
