"""The command that brings a file to where `ingest` looks for it: `llambert landing put FILE`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from llambert_etl.cli.clients import Clients
from llambert_etl.cli.options import EXAMPLE, Ahead, Day, Task, command
from llambert_etl.cli.outcome import emit

app = typer.Typer(no_args_is_help=True, help="The place where files for a day lie.")


@command(app, f"landing put reviews.csv {EXAMPLE}", name="put")
def put(
    files: Annotated[list[Path], typer.Argument(help="files of this machine, in a format that is read")],
    task: Task,
    partition: Day,
    ahead: Ahead = False,
) -> None:
    """Copy files to the place that the task file's source.uri has for a day; one of the same name is replaced."""
    from llambert_etl.sources.landing import put

    clients = Clients()
    day = clients.day(partition, ahead)
    found = clients.task(task)
    for file in files:
        emit(json.dumps({"file": str(file), "put": put(file, found, day, clients.settings)}))
