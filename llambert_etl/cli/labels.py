"""The commands of a label run and of what follows it: `llambert STEP --task NAME --partition DAY [--run RUN]`."""

import json
import logging
from typing import Annotated

import typer

from llambert_etl.cli.clients import Clients, Opened, step_command
from llambert_etl.cli.options import DEPLOYMENT, EXAMPLE, LABELS, RunName, Task, command
from llambert_etl.cli.outcome import emit, progress
from llambert_etl.config.fields import MOST
from llambert_etl.labelling.plan import Plan
from llambert_etl.manifest import Manifest
from llambert_etl.schemas import TableName

logger = logging.getLogger(__name__)

app = typer.Typer(no_args_is_help=True, add_completion=False)


@step_command(app, f"relabel {EXAMPLE} --upto 2026-11-12", LABELS)
def relabel(
    opened: Opened,
    upto: Annotated[str, typer.Option(help="the last day, YYYY-MM-DD")],
) -> Manifest:
    """List the days from --partition to --upto that have documents: those that Airflow is to label again."""
    from llambert_etl.steps.relabel import relabel

    return relabel(opened.run, upto=opened.clients.day(upto, opened.ahead), lake=opened.clients.lake)


@step_command(app, f"plan {EXAMPLE} --run by-hand-1", LABELS)
def plan(
    opened: Opened,
    model_version: Annotated[int | None, typer.Option(min=1, max=MOST, help="instead of the champion")] = None,
) -> Manifest:
    """Pin the model version of a label run and cut the day into shards."""
    from llambert_etl.steps.plan import plan

    lake, registry, settings = opened.clients.lake, opened.clients.registry, opened.clients.settings
    return plan(opened.run, lake=lake, registry=registry, settings=settings, model_version=model_version)


@step_command(app, f"label --shard 0 {EXAMPLE} --run by-hand-1", LABELS)
def label(
    opened: Opened,
    shard: Annotated[int, typer.Option(min=0, max=MOST, help="which shard of the plan")],
) -> Manifest:
    """Label one shard of the run's plan and stage the rows, unseen by readers."""
    from llambert_etl.steps.label import Classifier, label

    def load(plan: Plan) -> Classifier:
        from llambert_etl.encoder.inference import Encoder
        from llambert_etl.labelling.model_files import fetch

        return Encoder.load(fetch(lake, plan.model, settings.model_cache))

    lake, settings = opened.clients.lake, opened.clients.settings
    told = progress(f"label shard {shard}")
    return label(opened.run, shard=shard, lake=lake, settings=settings, load=load, progress=told)


@step_command(app, f"publish {EXAMPLE} --run by-hand-1", LABELS)
def publish(opened: Opened) -> Manifest:
    """Make the run's checked labels visible in one commit."""
    from llambert_etl.steps.publish import publish

    return publish(opened.run, lake=opened.clients.lake)


@step_command(app, f"export {EXAMPLE}", LABELS)
def export(opened: Opened) -> Manifest:
    """Bring the day's published labels to each place of the task file's `export`."""
    from llambert_etl.steps.export import export

    return export(opened.run, lake=opened.clients.lake, settings=opened.clients.settings)


@command(app, "forget --task movie_sentiment --id review-17", DEPLOYMENT)
def forget(
    task: Task,
    ids: Annotated[list[str], typer.Option("--id", help="a document's id, as in `documents`; as often as needed")],
    run: RunName = "cli",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would go, and change nothing")] = False,
) -> None:
    """Take documents out of every table and export, and refuse them where they come again."""
    from llambert_etl.run import Run
    from llambert_etl.steps.export import export
    from llambert_etl.steps.forget import days_to_export, forget

    clients = Clients()
    found = clients.task(task)
    removed = forget(found, ids, run=run, lake=clients.lake, dry_run=dry_run)
    days = days_to_export(found, removed, clients.lake) if found.export else []
    for day in [] if dry_run else days:
        export(Run(found, day, run), lake=clients.lake, settings=clients.settings)
    emit(
        json.dumps(
            {
                "removed": [each._asdict() for each in removed],
                "exported_again": days,
                "still_in": "older versions of tables and exports, until `llambert maintain` runs once they are older "
                "than its retention; ids and hashes in the tables' logs, for a year or a month more; the landing "
                "files; exported reviews; models that learnt from the text",
            }
        )
    )


@command(app, "maintain", DEPLOYMENT)
def maintain(
    retention_days: Annotated[
        int, typer.Option(min=7, max=36_500, help="how long old versions of the tables can be read")
    ] = 7,
) -> None:
    """Compact and vacuum every table (retention: seven days or more)."""
    from llambert_etl.steps.maintain import maintain

    clients = Clients()
    emit(json.dumps(maintain(lake=clients.lake, settings=clients.settings, days=retention_days)))


@command(app, "restore labels --version 12", DEPLOYMENT)
def restore(
    table: Annotated[
        TableName, typer.Argument(metavar="TABLE", show_choices=False, help="labels, documents or another")
    ],
    version: Annotated[int, typer.Option(min=0, max=MOST, help="of the table, as in `DeltaTable(uri).history()`")],
) -> None:
    """Make a table what it was at an older version; what was done since is to be done again."""
    from llambert_etl.config import load_tasks
    from llambert_etl.corpus.forgotten import brought_back

    clients = Clients()
    lake = clients.lake
    lake.restore(table, version)
    known = load_tasks(clients.settings.include).tasks
    back = {task: ids for task in known if (ids := brought_back(table, task, lake))}
    for task, ids in back.items():
        logger.warning("%s of %s holds %s forgotten ids again: `llambert forget` them again", table, task, len(ids))
    emit(json.dumps({"table": table, "restored": version, "forget_again": back}))
