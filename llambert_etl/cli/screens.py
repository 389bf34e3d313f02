"""What a person looks at: the status screen and the doctor's list."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from llambert_etl.steps.doctor import Finding
from llambert_etl.steps.status import Status

# Results of the screen commands go to the real stdout; while a command runs, sys.stdout is stderr.
_WIDTH = 110


def _console() -> Console:
    import sys

    return Console(file=sys.__stdout__, width=None if sys.__stdout__ and sys.__stdout__.isatty() else _WIDTH)


def show_status(status: Status) -> None:
    console = _console()
    console.print(f"[bold]{status.task.name}[/bold]: {status.task.description}")
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_row("documents", _counts(status.documents))
    if status.refusals:
        table.add_row("refused for", _counts(status.refusals))
    table.add_row("annotations", _counts(status.annotations))
    table.add_row("gold", _counts(status.gold))
    table.add_row("labels", _counts(status.labels))
    table.add_row("champion", _champion(status))
    behind = ", ".join(status.behind[:5]) + (f" and {len(status.behind) - 5} more" if len(status.behind) > 5 else "")
    table.add_row("behind the champion", f"{len(status.behind)} partitions: {behind}" if behind else "none")
    console.print(table)
    runs = Table("partition", "step", "run", "rows", "seconds", title="last commits", title_justify="left", box=None)
    for manifest in status.recent:
        runs.add_row(manifest.partition, manifest.step, manifest.run, _counts(manifest.rows), f"{manifest.seconds:.1f}")
    console.print(runs)


def show_checks(findings: Sequence[Finding]) -> None:
    table = Table("", "what", "seen", "mend", box=None)
    for finding in findings:
        mark = "[green]ok[/green]" if finding.ok else "[red]no[/red]"
        table.add_row(mark, finding.what, finding.seen, "" if finding.ok else finding.mend)
    _console().print(table)


def _champion(status: Status) -> str:
    if status.outage:
        return f"not known: {status.outage}"
    if status.champion is None:
        return "none yet"
    metrics = status.champion.metrics
    shown = ", ".join(f"{name} {metrics[name]:.4f}" for name in ("gold.accuracy", "gold.macro_f1") if name in metrics)
    return f"{status.champion.name} version {status.champion.version} ({shown})"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"
