"""Runs by hand: the steps of a Dag one after another in this process, each as its own command would do it.

Killed in between, the same line goes on where it stopped: no step does again what is done.
"""

import logging
from pathlib import Path
from typing import Annotated

import typer

from llambert_etl.cli import labels, landing, steps
from llambert_etl.cli.clients import Opened, step_command
from llambert_etl.cli.options import EXAMPLE, Chosen, Sample
from llambert_etl.cli.people import import_gold
from llambert_etl.config.fields import MOST
from llambert_etl.facts import Late, Planned

logger = logging.getLogger(__name__)

app = typer.Typer(no_args_is_help=True, help="Several steps in a row, as Airflow's Dags do them.")


@step_command(app, f"run ingest reviews.csv {EXAMPLE}", name="ingest")
def ingest(
    opened: Opened,
    files: Annotated[list[Path] | None, typer.Argument(help="put where `landing put` would put them, first")] = None,
) -> None:
    """Take a day's files in, and hold the gate of its documents and of those of past days that have changed."""
    asked = opened.run
    if files:
        landing.put(files, asked.task.name, asked.partition, ahead=opened.ahead)
    for day in (*Late.of(steps.ingest(opened)).late_partitions, asked.partition):
        steps.check(opened.anew(day), "documents")


@step_command(app, f"run retrain --gold gold.csv {EXAMPLE}", name="retrain")
def retrain(
    opened: Opened,
    gold: Annotated[
        str | None, typer.Option("--gold", help="labels by people, imported first; the task's own where left out")
    ] = None,
    strategy: Chosen = None,
    sample: Sample = None,
) -> None:
    """Import gold, let the LLM annotate the sample, hold its gate, train, and promote what is good enough.

    Where the task file asks for an approval, the last step only says what it would do; `llambert promote` then does it.
    """
    found = opened.run.task
    if gold is not None or found.gold:
        import_gold(opened, gold)
    if (strategy or found.encoder.strategy) != "gold":
        steps.annotate(opened.anew(), strategy=strategy, sample=sample)
        steps.check(opened.anew(), "annotations", strategy=strategy, sample=sample)
    steps.train(opened.anew(), strategy=strategy, sample=sample)
    steps.promote(opened.anew(), dry_run=found.retrain.approval)


@step_command(app, f"run label {EXAMPLE}", name="label")
def label(
    opened: Opened,
    model_version: Annotated[int | None, typer.Option(min=1, max=MOST, help="instead of the champion")] = None,
) -> None:
    """Plan a label run, label each shard, hold the gate, publish, and export where the task file says so.

    Where there is no champion the plan says so and nothing follows; where the day's labels are up to date, they are
    exported where they are not yet.
    """
    planned = Planned.of(labels.plan(opened, model_version))
    if planned.skip:
        logger.info("nothing to label: %s", planned.skip)
        return
    if planned.fresh:
        logger.info("nothing to label: the day's labels are those of this version already")
    else:
        for shard in range(planned.shards):
            labels.label(opened.anew(), shard)
        steps.check(opened.anew(), "labels")
        labels.publish(opened.anew())
    if opened.run.task.export:
        labels.export(opened.anew())
