"""The command that takes labels given by people: `llambert gold import`."""

from typing import Annotated

import typer

from llambert_etl.cli.clients import Opened, step_command
from llambert_etl.cli.options import EXAMPLE
from llambert_etl.errors import ConfigError
from llambert_etl.manifest import Manifest

app = typer.Typer(no_args_is_help=True, help="Labels given by people.")


@step_command(app, f"gold import gold.csv {EXAMPLE}", name="import")
def import_gold(
    opened: Opened,
    file: Annotated[
        str | None,
        typer.Argument(help="parquet, csv or jsonl, a path or an address; the task file's `gold` where left out"),
    ] = None,
) -> Manifest:
    """Read labels given by people into `gold`."""
    from llambert_etl.steps.gold import import_gold

    task, settings = opened.run.task, opened.clients.settings
    if file is None and task.gold is None:
        raise ConfigError(f"task {task.name!r}: names no gold file; give FILE, or set `gold:` in its task file")
    path = file or settings.include / str(task.gold)
    return import_gold(opened.run, path, lake=opened.clients.lake, settings=settings)
