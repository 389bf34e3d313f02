"""What a person looks at: the status screen and the doctor's list."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue
from rich.console import Console
from rich.table import Table
from rich.text import Text

from llambert_etl.cli.terminal import at_terminal, visible, write
from llambert_etl.config import LabellingTask
from llambert_etl.facts import Agreed
from llambert_etl.manifest import Manifest

if TYPE_CHECKING:
    from llambert_etl.registry import ModelVersion
    from llambert_etl.steps.doctor import Finding
    from llambert_etl.steps.explain import Origin
    from llambert_etl.steps.status import Snapshots, Status

_WIDTH = 110


class _Screen(Console):
    """What is shown was written by people and models: `[/b]` and `:+1:` are no markup, and nothing in it is obeyed."""

    def __init__(self) -> None:
        super().__init__(
            width=None if at_terminal() else _WIDTH,
            force_terminal=at_terminal(),
            markup=False,
            emoji=False,
            highlight=False,
        )

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)

    def show(self, *what: Table | str) -> None:
        """Write them one below the other. A value that is too long goes on in the next line: it is never cut."""
        with self.capture() as shown:
            for each in what:
                for column in each.columns if isinstance(each, Table) else ():
                    column.overflow = "fold"
                self.print(each)
        write(shown.get())


def show_manifest(manifest: Manifest) -> None:
    """Show what a person wants to know of a step; `--json` has all of it."""
    table = _pairs()
    if manifest.rows:
        table.add_row("rows", _counts(manifest.rows))
    if manifest.reasons:
        table.add_row("reasons", _counts(manifest.reasons))
    if manifest.versions_written:
        written = ", ".join(f"{table} version {version}" for table, version in manifest.versions_written.items())
        table.add_row("written", written)
    if manifest.tokens:
        table.add_row("spent", f"{manifest.tokens:,} tokens" + (f", {manifest.cost:.4f} USD" if manifest.cost else ""))
    for name, fact in manifest.facts.items():
        if (shown := _fact(fact)) is not None:
            table.add_row(name.replace("_", " "), shown)
    where = f"{manifest.step}: {manifest.task} {manifest.partition}, run {manifest.run}, {manifest.seconds:.1f} s"
    _Screen().show(where, table)


def _fact(fact: JsonValue) -> str | None:
    """Return a fact in a few words, or None for what is not true, not there, or a page of its own."""
    if isinstance(fact, Mapping):
        plain = {name: _fact(value) for name, value in fact.items() if not isinstance(value, Mapping | list)}
        return ", ".join(f"{name} {value}" for name, value in plain.items() if value is not None) or None
    if isinstance(fact, list):
        return None if any(isinstance(each, Mapping | list) for each in fact) else ", ".join(map(str, fact)) or None
    if isinstance(fact, bool) or fact is None:
        return "yes" if fact else None
    return f"{fact:.4g}" if isinstance(fact, float) else str(fact)


def show_status(status: "Status") -> None:
    table = _pairs()
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
    if status.ahead:
        table.add_row("after today", "; ".join(f"{name}: {_some(days)}" for name, days in status.ahead.items()))
    runs = Table("partition", "step", "run", "rows", "seconds", title="last commits", title_justify="left", box=None)
    for manifest in status.recent:
        runs.add_row(manifest.partition, manifest.step, manifest.run, _counts(manifest.rows), f"{manifest.seconds:.1f}")
    _Screen().show(f"{status.task.name}: {status.task.description}", table, runs)


def show_origin(task: LabellingTask, origin: "Origin") -> None:
    document, label, model = origin.document, origin.label, origin.model
    table = _pairs()
    table.add_row("task", f"{task.name}: {task.description}")
    table.add_row("document", f"{document['id']} of {document['partition']}, {document['status']}")
    if origin.others:
        table.add_row("also on", f"{_some(origin.others)}; --partition DAY shows one of them")
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
    _Screen().show(table)


def show_checks(findings: "Sequence[Finding]") -> None:
    table = Table("", "what", "seen", box=None)
    for finding in findings:
        mark = Text("ok", style="green") if finding.ok else Text("no", style="red")
        table.add_row(mark, finding.what, finding.seen)
    _Screen().show(table)
    # Not in the table, which breaks lines: these are to be copied.
    mends = [f"{finding.what}: {finding.mend}" for finding in findings if not finding.ok]
    write("".join(f"{visible(line)}\n" for line in (["", "To mend:", *mends] if mends else [])))


def show_review(found: Agreed) -> None:
    table = _pairs()
    for name, counts in {"asked": found.asked, "outcomes": found.outcomes, "gold": found.gold}.items():
        table.add_row(name, _counts(counts))
    table.add_row("where it errs, people side with", _counts(found.sides))
    for name, estimate in found.accuracy.items():
        table.add_row(f"accuracy of {name}, {estimate['of']} random", _estimate(estimate))
    for among, agreement in found.agreement.items():
        whom = "people" if among == "people" else f"people and {among}, random share"
        table.add_row(f"alpha of {whom}", _estimate(agreement["alpha"]))
        for pair in agreement["kappa"]:
            table.add_row(f"kappa of {' and '.join(pair['between'])}", _estimate(pair))
    verdicts = Table("chosen as", "encoder's label", "people's verdict", box=None)
    for stratum, by_label in found.verdicts.items():
        for label, counts in by_label.items():
            verdicts.add_row(stratum, label, _counts(counts))
    _Screen().show(table, verdicts)
    write(f"report {visible(found.report)}\n")


def _pairs() -> Table:
    return Table(show_header=False, box=None, padding=(0, 2))


def _estimate(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return f"not known (n {found['n']})"
    return f"{found['value']:.4f} ({found['low']:.4f} to {found['high']:.4f}, n {found['n']})"


def _published(snapshots: "Snapshots") -> str:
    commit = snapshots.published
    if commit is None or commit.manifest is None:
        return "nothing yet"
    return f"version {commit.version} of the labels, {commit.manifest.partition}"


def _exported(snapshots: "Snapshots") -> str:
    file = snapshots.newest
    return "nothing yet" if file is None else f"version {file.labels_version} of the labels, {file.partition}"


def _champion(status: "Status") -> str:
    if status.outage:
        return f"not known: {status.outage}"
    known = "" if status.champion is None else _version(status.champion)
    if status.doubt:
        return f"{known}{': ' if known else 'none: '}{status.doubt}; nothing is labelled"
    return known or "none yet"


def _version(version: "ModelVersion") -> str:
    metrics = version.metrics
    shown = ", ".join(f"{name} {metrics[name]:.4f}" for name in ("gold.accuracy", "gold.macro_f1") if name in metrics)
    return f"{version.name} version {version.version} ({shown})"


def _some(days: Sequence[str], shown: int = 5) -> str:
    more = f" and {len(days) - shown} more" if len(days) > shown else ""
    return f"{len(days)} partition{'s' * (len(days) > 1)}: {', '.join(days[:shown])}{more}" if days else "none"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"
