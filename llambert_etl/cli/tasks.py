"""The commands around task files: `llambert tasks …`."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from llambert_etl.cli.clients import Clients
from llambert_etl.cli.options import Task, command, json_wanted
from llambert_etl.cli.outcome import emit
from llambert_etl.cli.terminal import visible
from llambert_etl.config import find_task
from llambert_etl.errors import ConfigError
from llambert_etl.settings import Settings, load_settings

app = typer.Typer(no_args_is_help=True, help="Write task files, and look at them.")

Include = Annotated[
    Path, typer.Option("--include", help="folder of tasks/, prompts/ and gold/", envvar="LLAMBERT_INCLUDE")
]


@command(app, 'tasks new tickets --label invoice="About money." --label other="Anything else."', name="new")
def new(
    name: Annotated[str, typer.Argument(help="lower-case letters, digits and underscores")],
    label: Annotated[list[str] | None, typer.Option("--label", help="NAME=MEANING, for each label")] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="address of the files; below LLAMBERT_SOURCES where left out")
    ] = None,
    include: Include = Path("include"),
) -> None:
    """Write a task file that runs as it is, with a prompt made of its labels, to go on from."""
    from llambert_etl.steps.new_task import new_task

    emit(json.dumps({"task": name, "file": str(new_task(name, label or [], source, include, _settings()))}))


@command(app, "tasks validate", name="validate")
def validate(include: Include = Path("include")) -> None:
    """Say what is wrong in the task files, a line for each fault, and warn of what cannot run here."""
    from llambert_etl.steps.validate import validate

    settings = _settings()
    report = validate(include, settings)
    for task in report.sound:
        emit(f"{task.name}: {len(task.labels)} labels, {task.annotator.model} -> {task.encoder.model}")
    for line in [*(f"warning: {warning}" for warning in report.warnings), *report.faults]:
        print(visible(line), file=sys.stderr)
    if report.faults:
        one = len(report.faults) == 1
        raise ConfigError(f"tasks validate: {'one fault' if one else f'{len(report.faults)} faults'}; see above")


@command(app, "tasks show --task movie_sentiment", name="show")
def show(task: Task, include: Include = Path("include")) -> None:
    """Print one task file as it is understood, defaults included."""
    found = find_task(include, task)
    emit(json.dumps({**found.model_dump(mode="json"), "config_hash": found.config_hash}, indent=2))


@command(app, 'tasks prompt --task movie_sentiment --text "A warm and funny film."', name="prompt")
def prompt(
    task: Task,
    text: Annotated[str | None, typer.Option("--text", help="a document's; one of the lake where left out")] = None,
    include: Include = Path("include"),
) -> None:
    """Print what the LLM is asked about a document, as it is sent; nobody is asked."""
    from llambert_etl.corpus.documents import any_text
    from llambert_etl.llm.asked import asked

    found = find_task(include, task)
    shown = asked(found, include, any_text(Clients().lake, task) if text is None else text)
    if json_wanted.get():
        emit(json.dumps([turn._asdict() for turn in shown], ensure_ascii=False))
        return
    emit("\n".join(f"--- {turn.role}\n{turn.content}" for turn in shown))


def _settings() -> Settings | None:
    """Return this deployment's settings, or None in a shell that has none: a task file can be written without."""
    try:
        return load_settings()
    except ConfigError as error:
        print(visible(f"warning: nothing is said of the deployment, for {error}"), file=sys.stderr)
        return None
