"""Runs by hand: the steps of a Dag one after another in this process, each as its own command would do it.

Killed in between, the same line goes on where it stopped: no step does again what is done.
"""

import logging
from pathlib import Path
from typing import Annotated

import typer

from llambert_etl.cli import labels, landing, steps
from llambert_etl.cli.clients import open_step
from llambert_etl.cli.gold import import_gold
from llambert_etl.cli.options import EXAMPLE, Ahead, Chosen, Day, Expect, Run, Sample, Task, command
from llambert_etl.facts import Late, Planned

logger = logging.getLogger(__name__)

app = typer.Typer(no_args_is_help=True, help="Several steps in a row, as Airflow's Dags do them.")


@command(app, f"run ingest reviews.csv {EXAMPLE}", name="ingest")
def ingest(
    task: Task,
    partition: Day,
    files: Annotated[list[Path] | None, typer.Argument(help="put where `landing put` would put them, first")] = None,
    run: Run = "cli",
    expect: Expect = None,
    ahead: Ahead = False,
) -> None:
    """Take a day's files in, and hold the gate of its documents and of those of past days that have changed."""
    open_step(task, partition, run, expect, ahead)
    if files:
        landing.put(files, task, partition, ahead=ahead)
    late = Late.of(steps.ingest(task, partition, run=run, expect=expect, ahead=ahead)).late_partitions
    for day in (*late, partition):
        steps.check("documents", task, day, run=run, expect=expect, ahead=ahead)


@command(app, f"run retrain --gold gold.csv {EXAMPLE}", name="retrain")
def retrain(
    task: Task,
    partition: Day,
    gold: Annotated[
        str | None, typer.Option("--gold", help="labels by people, imported first; the task's own where left out")
    ] = None,
    run: Run = "cli",
    expect: Expect = None,
    ahead: Ahead = False,
    strategy: Chosen = None,
    sample: Sample = None,
) -> None:
    """Import gold, let the LLM annotate the sample, hold its gate, train, and promote what is good enough.

    Where the task file asks for an approval, the last step only says what it would do; `llambert promote` then does it.
    """
    found = open_step(task, partition, run, expect, ahead).run.task
    if gold or found.gold:
        import_gold(task, partition, gold, run=run, expect=expect, ahead=ahead)
    if (strategy or found.encoder.strategy) != "gold":
        steps.annotate(task, partition, run=run, expect=expect, ahead=ahead, strategy=strategy, sample=sample)
        steps.check(
            "annotations", task, partition, run=run, expect=expect, ahead=ahead, strategy=strategy, sample=sample
        )
    steps.train(task, partition, run=run, expect=expect, ahead=ahead, strategy=strategy, sample=sample)
    steps.promote(task, partition, run=run, expect=expect, ahead=ahead, dry_run=found.retrain.approval)


@command(app, f"run label {EXAMPLE}", name="label")
def label(
    task: Task,
    partition: Day,
    run: Run = "cli",
    expect: Expect = None,
    ahead: Ahead = False,
    model_version: Annotated[int | None, typer.Option(min=1, help="instead of the champion")] = None,
) -> None:
    """Plan a label run, label each shard, hold the gate, publish, and export where the task file says so.

    Where the day's labels are up to date, or there is no champion, the plan says so and nothing follows.
    """
    found = open_step(task, partition, run, expect, ahead).run.task
    planned = Planned.of(labels.plan(task, partition, run, expect, ahead, model_version))
    if planned.fresh or planned.skip:
        logger.info("nothing to label: %s", planned.skip or "the day's labels are those of this version already")
        return
    for shard in range(planned.shards):
        labels.label(task, partition, shard, run=run, expect=expect, ahead=ahead)
    steps.check("labels", task, partition, run=run, expect=expect, ahead=ahead)
    labels.publish(task, partition, run=run, expect=expect, ahead=ahead)
    if found.export:
        labels.export(task, partition, run=run, expect=expect, ahead=ahead)
