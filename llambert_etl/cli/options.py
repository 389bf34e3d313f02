"""What the commands of steps have in common: their options, and their last word."""

from typing import Annotated

import typer

from llambert_etl.cli.outcome import emit
from llambert_etl.config import LabellingTask, Strategy
from llambert_etl.errors import ConfigError
from llambert_etl.manifest import Manifest

Task = Annotated[str, typer.Option("--task", help="name of a file in include/tasks, without .yaml")]
Day = Annotated[str, typer.Option("--partition", help="UTC day, YYYY-MM-DD")]
Run = Annotated[str, typer.Option("--run", help="name of the run, written into every row")]
Expect = Annotated[str | None, typer.Option("--expect", help="config hash; a task file with another one is refused")]
Ahead = Annotated[bool, typer.Option("--allow-future", help="take a day that has not begun, as one to test with")]
Chosen = Annotated[Strategy | None, typer.Option("--strategy", help="what to train on, instead of the task file's")]
Sample = Annotated[
    int | None, typer.Option("--sample", min=1, help="documents in all, instead of the task file's sample and extra")
]


def to_ask(task: LabellingTask, strategy: Strategy | None, sample: int | None) -> int:
    """Return how many documents the LLM is asked about. Raise ConfigError for a strategy that has no use for it."""
    if strategy == "gold":
        raise ConfigError(f"{task.name}: strategy 'gold' has no use for the LLM's answers; run `llambert train` alone")
    return task.sample_size(strategy, sample)


def done(manifest: Manifest) -> None:
    emit(manifest.model_dump_json())
