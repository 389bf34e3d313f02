"""Prints the Summary: what happened to every row, what the labels are worth, what it cost, and where to look."""

from collections.abc import Iterable, Mapping

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table

from laptop.demo.summary import Accuracy, Refusal, Stage, Step, Summary, Trained

WIDTH = 112
_HONESTY = "  calibration error: over ten bins of equal width, then over ten of like many rows"
_WHAT = {"gold": "500 gold labels alone", "llm": "LLM labels alone", "combined": "LLM labels, then gold"}


def show(summary: Summary, console: Console) -> None:
    """Print the whole report."""
    sections: list[tuple[str, RenderableType]] = [
        ("Rows at every stage", Group(_stages(summary.stages), _totals(summary))),
        ("Every refusal, by reason", _refusals(summary.refusals)),
        ("How good the labels are", _accuracies(summary.accuracy)),
        (
            "One encoder, three ways to train it (same gold test rows)",
            Group(_trained(summary.trained, summary.champion), _HONESTY),
        ),
        ("What the third night cost", _last_night(summary)),
        ("Seconds and rows per second of each step", _steps(summary.steps)),
        ("Three questions to the champion", _predictions(summary)),
        ("Where the time went", _counts(summary.parts, "s")),
        ("Where the tables are, and how to look", how_to_look(summary)),
    ]
    for title, content in sections:
        console.print(f"\n[bold]{title}[/bold]")
        console.print(content, markup=False, highlight=False)
    console.print(Panel(verdict(summary), expand=False, title="LlamBERT"))


def verdict(summary: Summary) -> str:
    """Say in three lines what the demo has shown."""
    labelled = sum(stage.labelled for stage in summary.stages)
    annotated = summary.annotations.get("labelled", 0)
    best = next((row for row in summary.accuracy if row.who == "encoder"), None)
    quality = f"right on {best.share:.1%} of {best.of:,} gold test rows" if best else "not measured"
    named = ", ".join(f"{count:,} {kind}" for kind, count in summary.runs.rows_by_kind.items())
    return (
        f"The LLM read {annotated:,} reviews; the encoder labelled {labelled:,}, {quality}.\n"
        f"Champion: version {summary.champion}. Rows of `labels` by the kind of their Airflow run: {named}.\n"
        f"The whole loop took {summary.seconds / 60:.1f} minutes on {summary.machine}."
    )


def how_to_look(summary: Summary) -> str:
    """Return snippets that read the published labels with polars and DuckDB."""
    table = f"{summary.lake}/labels"
    return f"""\
  Tables     {summary.lake}/{{documents,annotations,gold,labels,promotions,reviews}} at {summary.s3_endpoint}
  Serve them `make up` (Airflow, MLflow, S3; it prints addresses, login and keys), `make down` stops it

  polars     import polars as pl
             options = {{"aws_endpoint": "{summary.s3_endpoint}", "aws_allow_http": "true",
                        "aws_access_key_id": KEY, "aws_secret_access_key": SECRET, "aws_region": "us-east-1"}}
             labels = pl.scan_delta("{table}", storage_options=options)
             labels.group_by("partition", "label").len().collect()

  DuckDB     CREATE SECRET (TYPE s3, KEY_ID 'KEY', SECRET 'SECRET', URL_STYLE 'path', USE_SSL false,
                            ENDPOINT '{summary.s3_endpoint.removeprefix("http://")}');
             SELECT partition, label, count(*) FROM delta_scan('{table}') GROUP BY ALL;"""  # noqa: S608 - to be read, not run


def _stages(stages: Iterable[Stage]) -> Table:
    table = _table("day", "lines landed>", "refused>", "documents>", "labelled>", "by version>")
    rows = list(stages)
    for stage in rows:
        numbers = (stage.landed, stage.rejected, stage.accepted, stage.labelled)
        table.add_row(stage.partition, *(f"{number:,}" for number in numbers), _joined(stage.model_versions))
    sums = (sum(getattr(stage, name) for stage in rows) for name in ("landed", "rejected", "accepted", "labelled"))
    table.add_row("all", *(f"{number:,}" for number in sums), "", style="bold")
    return table


def _totals(summary: Summary) -> str:
    annotations = ", ".join(f"{count:,} {status}" for status, count in summary.annotations.items())
    gold = ", ".join(f"{count:,} {split}" for split, count in summary.gold.items())
    return f"  annotations: {annotations} (by {summary.annotator}); gold: {gold}"


def _refusals(refusals: Iterable[Refusal]) -> Table:
    table = _table("day", "reason", "rows>", "for example")
    for refusal in refusals:
        table.add_row(refusal.partition, refusal.reason, f"{refusal.count:,}", refusal.example)
    return table


def _accuracies(accuracies: Iterable[Accuracy]) -> Table:
    table = _table("who", "on", "right>", "of>", "accuracy>")
    for row in accuracies:
        table.add_row(row.who, row.on, f"{row.right:,}", f"{row.of:,}", f"{row.share:.1%}")
    return table


def _trained(trained: Iterable[Trained], champion: int) -> Table:
    table = _table("trained on", "version>", "accuracy>", "macro F1>", "calibration error>", "decision")
    for row in sorted(trained, key=lambda row: row.metrics.get("gold.accuracy", 0.0)):
        names = ("accuracy", "macro_f1", "ece", "ece_mass")
        metrics = [row.metrics.get(f"gold.{name}", float("nan")) for name in names]
        table.add_row(
            _WHAT.get(row.strategy, row.strategy),
            "" if row.version is None else str(row.version),
            f"{metrics[0]:.1%}",
            f"{metrics[1]:.3f}",
            # Only a stage that is the last one is calibrated.
            "not calibrated" if row.version is None else f"{metrics[2]:.3f}, {metrics[3]:.3f}",
            f"{row.decision}, champion" if row.version == champion else row.decision,
            style="bold" if row.version == champion else None,
        )
    return table


def _last_night(summary: Summary) -> str:
    night = summary.last_night
    return (
        f"  {night.documents:,} new documents: {night.inferred:,} inferred, {night.reused:,} reused, "
        f"{night.llm_calls:,} LLM calls, {night.seconds:.0f} s of work; no other day was touched"
    )


def _steps(steps: Iterable[Step]) -> Table:
    table = _table("day", "dag", "step", "rows>", "seconds>", "rows/s>", "with start-up>")
    for step in steps:
        rate = f"{step.rows / step.seconds:,.0f}" if step.rows and step.seconds else ""
        rows = f"{step.rows:,}" if step.rows else ""
        table.add_row(step.partition, step.dag, step.step, rows, f"{step.seconds:.1f}", rate, f"{step.in_airflow:.1f}")
    return table


def _predictions(summary: Summary) -> Table:
    table = _table("label", "probability>", "text")
    for prediction in summary.predictions:
        table.add_row(prediction.label, f"{prediction.probabilities[prediction.label]:.2f}", prediction.text)
    return table


def _counts(numbers: Mapping[str, float], unit: str) -> Table:
    table = _table("part", f"{unit}>")
    for name, number in numbers.items():
        table.add_row(name, f"{number:.0f}")
    return table


def _table(*columns: str) -> Table:
    """Return a plain table; a column whose name ends in `>` is aligned to the right."""
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for column in columns:
        table.add_column(column.removesuffix(">"), justify="right" if column.endswith(">") else "left")
    return table


def _joined(values: Iterable[int]) -> str:
    return ", ".join(str(value) for value in values)
