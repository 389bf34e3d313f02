"""All commands together."""

import json
import os
import shutil
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer.core import TyperGroup

from llambert_etl.cli import labels, landing, models, people, runs, steps, tasks
from llambert_etl.cli.clients import Clients, Opened, open_batch, step_command
from llambert_etl.cli.options import (
    DEPLOYMENT,
    EXAMPLE,
    FILES,
    LOOK,
    PARTS,
    PEOPLE,
    Chosen,
    Sample,
    Task,
    command,
    to_ask,
)
from llambert_etl.cli.outcome import emit
from llambert_etl.errors import ConfigError, DataError
from llambert_etl.manifest import Manifest
from llambert_etl.partition import parse_partition, today


class _InOrder(TyperGroup):
    """The help has its parts in the order of the work, wherever a command is written down."""

    def list_commands(self, ctx: object) -> list[str]:
        parts = {name: getattr(command, "rich_help_panel", None) or LOOK for name, command in self.commands.items()}
        return sorted(parts, key=lambda name: PARTS.index(parts[name]))


# On fewer columns frames would leave an option's name no room: the help is plain there.
_frames: Literal["rich"] | None = "rich" if shutil.get_terminal_size().columns >= 72 else None
app = typer.Typer(add_completion=False, cls=_InOrder, rich_markup_mode=_frames)
look_app = typer.Typer()
batch_app = typer.Typer(no_args_is_help=True, help="Batch files of a provider, carried by hand.")
app.add_typer(tasks.app, name="tasks", rich_help_panel=FILES)
app.add_typer(landing.app, name="landing", rich_help_panel=FILES)
app.add_typer(runs.app, name="run", rich_help_panel=FILES)
app.add_typer(steps.app)
app.add_typer(labels.app)
app.add_typer(look_app)
app.add_typer(people.gold_app, name="gold", rich_help_panel=PEOPLE)
app.add_typer(people.review_app, name="review", rich_help_panel=PEOPLE)
app.add_typer(batch_app, name="batch", rich_help_panel=PEOPLE)
app.add_typer(models.app, name="models", rich_help_panel=DEPLOYMENT)


def show_version(wanted: bool) -> None:
    if wanted:
        emit(installed_version("llambert-etl"))
        raise typer.Exit


_EXIT_CODES = (
    "Exit codes: 0 done, 65 mend the data (or a gate failed), 75 try again, 78 mend the settings or the arguments, "
    "1 a bug; 130 after Ctrl-C, 141 where the reader of stdout went before the end, as head does.\n\n"
    "Example: llambert tasks validate"
)


@app.callback(epilog=_EXIT_CODES)
def llambert(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=show_version, help="print the version, and end")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="anywhere on the line: print JSON at a terminal too, as into a pipe")
    ] = False,
) -> None:
    """Label texts with the judgement of a large language model, at the price of a small one.

    Results go to stdout, the story of a step to stderr. Settings are variables, LLAMBERT_LAKE and others.
    """


@step_command(batch_app, f"batch write new.jsonl {EXAMPLE}", name="write")
def write_batch(
    opened: Opened,
    file: Annotated[Path, typer.Argument(help="a new JSON lines file of requests, for the provider's batch API")],
    strategy: Chosen = None,
    sample: Sample = None,
) -> Manifest:
    """Write requests about the documents of the sample that are not answered yet."""
    from llambert_etl.steps.batch import write_batch

    work, annotator = open_batch(opened, sample=to_ask(opened.run.task, strategy, sample), step="batch write")
    return write_batch(work, annotator, file)


@step_command(batch_app, f"batch read results.jsonl {EXAMPLE}", name="read")
def read_batch(
    opened: Opened,
    file: Annotated[Path, typer.Argument(help="the JSON lines file of results that the provider gave back")],
    strategy: Chosen = None,
    sample: Sample = None,
) -> Manifest:
    """Read results into `annotations`; a document of the sample without one is `failed`."""
    from llambert_etl.steps.batch import read_batch

    work, annotator = open_batch(opened, sample=to_ask(opened.run.task, strategy, sample), step="batch read")
    return read_batch(work, annotator, file)


@command(look_app, 'predict --task movie_sentiment "A warm and funny film."', LOOK)
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


@command(look_app, "status --task movie_sentiment", LOOK)
def status(task: Task) -> None:
    """Print one screen: documents, annotations, labels, partitions behind the champion, last runs."""
    from llambert_etl.cli.screens import show_status
    from llambert_etl.steps.status import status

    clients = Clients()
    registry = clients.registry if clients.settings.mlflow_uri else None
    show_status(status(clients.task(task), lake=clients.lake, registry=registry, today=today()))


@command(look_app, "explain --task movie_sentiment --id rt-00017", LOOK)
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


@command(look_app, "doctor", DEPLOYMENT)
def doctor() -> None:
    """Say whether this deployment can be used, and how to mend what cannot."""
    from llambert_etl.cli.screens import show_checks
    from llambert_etl.steps.doctor import doctor, without_settings

    try:
        findings = doctor(Clients().settings)
    except ConfigError as error:  # of the settings; every other one is a finding
        findings = without_settings(error, os.environ)
    show_checks(findings)
    if any(not finding.ok for finding in findings):
        raise ConfigError("doctor: this deployment cannot be used yet; see the lines marked `no`")


@command(look_app, "init", DEPLOYMENT)
def init() -> None:
    """Create the tables that are absent, and add the columns that a new version has."""
    lake = Clients().lake
    lake.add_columns()
    emit(json.dumps({"lake": lake.uri, "tables": "ready"}))
