"""All commands together."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from llambert_etl.cli import labels, models, review, steps
from llambert_etl.cli.clients import Clients, open_batch, open_step
from llambert_etl.cli.options import Ahead, Chosen, Day, Expect, Run, Sample, Task, done, to_ask
from llambert_etl.cli.outcome import emit
from llambert_etl.config import LabellingTask, Source, find_task, load_tasks
from llambert_etl.errors import ConfigError, DataError
from llambert_etl.partition import parse_partition, today
from llambert_etl.studies.plan import load_plan

app = steps.app
tasks_app = typer.Typer(no_args_is_help=True, help="Look at the task files.")
gold_app = typer.Typer(no_args_is_help=True, help="Labels given by people.")
batch_app = typer.Typer(no_args_is_help=True, help="Batch files of a provider, carried by hand.")
app.add_typer(labels.app)
app.add_typer(tasks_app, name="tasks")
app.add_typer(batch_app, name="batch")
app.add_typer(gold_app, name="gold")
app.add_typer(models.app, name="models")
app.add_typer(review.app, name="review")

_ANY_DAY = "2000-01-01"
Include = Annotated[
    Path, typer.Option("--include", help="folder of tasks/, prompts/ and gold/", envvar="LLAMBERT_INCLUDE")
]


@tasks_app.command("validate")
def validate(include: Include = Path("include")) -> None:
    """Load every task file, its prompt and its studies; name each fault with its file, field and rule."""
    from llambert_etl.llm.prompts import prompt_hash

    found = load_tasks(include)
    problems = list(found.problems.values())
    for task in found.tasks.values():
        try:
            prompt_hash(task, include)
            load_plan(include, task)
            _check_source(task, include)
        except ConfigError as error:
            problems.append(str(error))
        else:
            emit(f"{task.name}: {len(task.labels)} labels, {task.annotator.model} -> {task.encoder.model}")
    if not found.tasks and not problems:
        raise ConfigError(f"{include / 'tasks'}: no task files there")
    if problems:
        raise ConfigError("\n".join(problems))


def _check_source(task: LabellingTask, include: Path) -> None:
    """Raise ConfigError for a URI that no deployment can read. What this one lets tasks read, `ingest` looks at."""
    from llambert_etl.sources.location import files_location

    if not isinstance(task.source, Source):
        return
    try:
        files_location(task.source.uri.replace("{partition}", _ANY_DAY))
    except ConfigError as error:
        raise ConfigError(f"{include / 'tasks' / task.name}.yaml: source.uri: {error}") from error


@tasks_app.command("show")
def show(task: Task, include: Include = Path("include")) -> None:
    """Print one task file as it is understood, defaults included."""
    found = find_task(include, task)
    emit(json.dumps({**found.model_dump(mode="json"), "config_hash": found.config_hash}, indent=2))


@gold_app.command("import")
def import_gold(
    task: Task,
    partition: Day,
    file: Annotated[
        str | None,
        typer.Argument(help="parquet, csv or jsonl, a path or an address; the task file's `gold` where left out"),
    ] = None,
    run: Run = "cli",
    expect: Expect = None,
    ahead: Ahead = False,
) -> None:
    """Read labels given by people into `gold`."""
    from llambert_etl.steps.gold import import_gold

    found, day, clients = open_step(task, partition, expect, ahead)
    if file is None and found.gold is None:
        raise ConfigError(f"task {found.name!r}: names no gold file; give FILE, or set `gold:` in its task file")
    path = file or clients.settings.include / str(found.gold)
    done(import_gold(found, path, day, run=run, lake=clients.lake, settings=clients.settings))


@batch_app.command("write")
def write_batch(
    task: Task,
    partition: Day,
    file: Annotated[Path, typer.Argument(help="a new JSON lines file of requests, for the provider's batch API")],
    run: Run = "cli",
    expect: Expect = None,
    ahead: Ahead = False,
    strategy: Chosen = None,
    sample: Sample = None,
) -> None:
    """Write requests about the documents of the sample that are not answered yet."""
    from llambert_etl.steps.batch import write_batch

    opened = open_step(task, partition, expect, ahead)
    work, annotator = open_batch(opened, run=run, sample=to_ask(opened.task, strategy, sample), step="batch write")
    done(write_batch(work, annotator, file))


@batch_app.command("read")
def read_batch(
    task: Task,
    partition: Day,
    file: Annotated[Path, typer.Argument(help="the JSON lines file of results that the provider gave back")],
    run: Run = "cli",
    expect: Expect = None,
    ahead: Ahead = False,
    strategy: Chosen = None,
    sample: Sample = None,
) -> None:
    """Read results into `annotations`; a document of the sample without one is `failed`."""
    from llambert_etl.steps.batch import read_batch

    opened = open_step(task, partition, expect, ahead)
    work, annotator = open_batch(opened, run=run, sample=to_ask(opened.task, strategy, sample), step="batch read")
    done(read_batch(work, annotator, file))


@app.command()
def predict(
    task: Task,
    texts: Annotated[list[str] | None, typer.Argument(help="texts; lines of stdin where left out")] = None,
) -> None:
    """Print the champion's label and probabilities for each text, one JSON a line."""
    from llambert_etl.steps.predict import predict

    clients = Clients()
    found = clients.task(task)
    try:
        given = texts or [line.rstrip("\n") for line in sys.stdin]
    except UnicodeDecodeError as error:
        raise DataError(f"predict: stdin is not {error.encoding}; convert it first") from error
    if not given:
        raise DataError("predict: no texts; give them as arguments or as lines on stdin")
    for text, label, probabilities in predict(found, given, lake=clients.lake, registry=clients.registry):
        emit(json.dumps({"text": text, "label": label, "probabilities": probabilities}, ensure_ascii=False))


@app.command()
def status(task: Task) -> None:
    """Print one screen: documents, annotations, labels, partitions behind the champion, last runs."""
    from llambert_etl.cli.screens import show_status
    from llambert_etl.steps.status import status

    clients = Clients()
    show_status(status(clients.task(task), lake=clients.lake, registry=clients.registry, today=today()))


@app.command()
def explain(
    task: Task,
    document: Annotated[str, typer.Option("--id", help="the document's id, as in `documents`")],
    partition: Annotated[str | None, typer.Option(help="UTC day; the last one that has the id where left out")] = None,
) -> None:
    """Print where a document's label came from: file, text, LLM, people, training, model and gate."""
    from llambert_etl.cli.screens import show_origin
    from llambert_etl.steps.explain import explain

    day, clients = None if partition is None else parse_partition(partition), Clients()
    found = clients.task(task)
    show_origin(found, explain(found, document, lake=clients.lake, partition=day))


@app.command()
def doctor() -> None:
    """Say whether this deployment can be used, and how to mend what cannot."""
    from llambert_etl.cli.screens import show_checks
    from llambert_etl.steps.doctor import doctor

    findings = doctor(Clients().settings)
    show_checks(findings)
    if any(not finding.ok for finding in findings):
        raise ConfigError("doctor: this deployment cannot be used yet; see the lines marked `no`")


@app.command()
def init() -> None:
    """Create the tables that are absent."""
    emit(json.dumps({"lake": Clients().lake.uri, "tables": "ready"}))
