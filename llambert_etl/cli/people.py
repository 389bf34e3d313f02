"""The commands of what people give: `llambert gold import`, `llambert review export` and `llambert review import`."""

from pathlib import Path
from typing import Annotated

import typer

from llambert_etl.cli.clients import Opened, step_command
from llambert_etl.cli.options import EXAMPLE
from llambert_etl.config.fields import MOST
from llambert_etl.errors import ConfigError
from llambert_etl.facts import Agreed
from llambert_etl.manifest import Manifest
from llambert_etl.reviews.reviewed import Stratum

MAX_SIZE = 1_000

gold_app = typer.Typer(no_args_is_help=True, help="Labels given by people.")
review_app = typer.Typer(no_args_is_help=True, help="Documents that people look at again.")


@step_command(gold_app, f"gold import gold.csv {EXAMPLE}", name="import")
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
    path = settings.include / str(task.gold) if file is None else file
    return import_gold(opened.run, path, lake=opened.clients.lake, settings=settings)


@step_command(review_app, f"review export folder {EXAMPLE}", name="export")
def export(
    opened: Opened,
    folder: Annotated[Path, typer.Argument(help="a new folder for the files that reviewers get")],
    size: Annotated[int, typer.Option(min=1, max=MAX_SIZE, help="documents of each stratum, at most")] = 100,
    seed: Annotated[int, typer.Option(help="another seed chooses others")] = 42,
    stratum: Annotated[
        list[Stratum] | None,
        typer.Option(metavar="NAME", help="random, errors or disagreements; repeatable, all where left out"),
    ] = None,
    annotators: Annotated[int, typer.Option(min=1, max=MOST, help="answers that each document waits for")] = 1,
    suggest: Annotated[bool, typer.Option("--suggest/--blind", help="show the encoder's label to reviewers")] = False,
) -> Manifest:
    """Choose errors, disagreements and a random share as of the day; write them as CSV and for Label Studio."""
    from llambert_etl.steps.review_export import Ask, export_review

    ask = Ask(size, seed, tuple(stratum or Stratum), annotators, suggest)
    hashed = opened.clients.prompt_hash(opened.run.task)
    return export_review(opened.run, folder, ask, lake=opened.clients.lake, prompt_hash=hashed)


@step_command(review_app, f"review import answers.csv {EXAMPLE}", name="import")
def import_answers(
    opened: Opened,
    files: Annotated[list[Path], typer.Argument(help="the CSV, filled in, or JSON exported by Label Studio")],
) -> Manifest:
    """Take people's answers, say how far they agree, and make gold of what they agree on."""
    from llambert_etl.cli.screens import show_review
    from llambert_etl.steps.review_import import import_review

    manifest = import_review(opened.run, files, lake=opened.clients.lake)
    show_review(Agreed.of(manifest))
    return manifest
