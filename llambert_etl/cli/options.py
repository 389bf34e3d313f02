"""What the commands of steps have in common: their options, and their last word."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Annotated

import typer

from llambert_etl.cli.outcome import TERMINATION_BYTES, emit
from llambert_etl.cli.terminal import at_terminal
from llambert_etl.config import LabellingTask, Strategy
from llambert_etl.config.fields import MOST
from llambert_etl.errors import ConfigError
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.settings import load_settings

# The parts of the help, in the order of the work.
PARTS = FILES, CHAMPION, LABELS, LOOK, PEOPLE, DEPLOYMENT = (
    "Begin here",
    "From files to a champion",
    "From a champion to labels",
    "Look",
    "By hand",
    "The deployment",
)
# What most examples of the help end with.
EXAMPLE = "--task movie_sentiment --partition 2026-11-10"
# Whether `--json` was given: a person at a terminal then sees what a program does.
json_wanted: ContextVar[bool] = ContextVar("json_wanted", default=False)

Task = Annotated[str, typer.Option("--task", help="name of a file in include/tasks, without .yaml")]
Day = Annotated[str, typer.Option("--partition", help="UTC day, YYYY-MM-DD")]
RunName = Annotated[str, typer.Option("--run", help="name of the run, written into every row")]
Expect = Annotated[str | None, typer.Option("--expect", help="config hash; a task file with another one is refused")]
Chosen = Annotated[
    Strategy | None,
    typer.Option(
        "--strategy",
        metavar="NAME",
        help="gold, llm, llm+extra or combined: what to train on, instead of the task file's",
    ),
]
Ahead = Annotated[bool, typer.Option("--allow-future", help="take a day that has not begun, as one to test with")]
Sample = Annotated[
    int | None,
    typer.Option("--sample", min=1, max=MOST, help="documents in all, instead of the task file's sample and extra"),
]


def to_ask(task: LabellingTask, strategy: Strategy | None, sample: int | None) -> int:
    """Return how many documents the LLM is asked about. Raise ConfigError for a strategy that has no use for it."""
    if strategy == "gold":
        raise ConfigError(f"{task.name}: strategy 'gold' has no use for the LLM's answers; run `llambert train` alone")
    return task.sample_size(strategy, sample)


def command(
    app: typer.Typer, example: str, panel: str | None = None, name: str | None = None
) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Make a function a command whose help ends with an example."""
    return app.command(name, rich_help_panel=panel, epilog=f"Example: llambert {example}")


def done(manifest: Manifest) -> None:
    """Say what a step did: a table to a person at a terminal, one line of JSON to everything else."""
    line, settings = manifest.model_dump_json(), load_settings()
    if settings.hand_over and len(line.encode()) > TERMINATION_BYTES:
        Lake.from_settings(settings).write_note(settings.hand_over, line)
    if at_terminal() and not json_wanted.get():
        from llambert_etl.cli.screens import show_manifest

        show_manifest(manifest)
    else:
        emit(line)
