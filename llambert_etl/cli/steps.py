"""The commands that run a step: `llambert STEP --task NAME --partition DAY [--run RUN]`."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from llambert_etl.cli.clients import Clients, open_backlog, open_batch, open_step
from llambert_etl.cli.outcome import emit, progress
from llambert_etl.config import Strategy, StudyKind
from llambert_etl.labelling import Plan, merge, read_plan, read_shards, record_check
from llambert_etl.manifest import Manifest
from llambert_etl.partition import parse_partition
from llambert_etl.studies.plan import load_plan

app = typer.Typer(no_args_is_help=True, add_completion=False)

Task = Annotated[str, typer.Option("--task", help="name of a file in include/tasks, without .yaml")]
Day = Annotated[str, typer.Option("--partition", help="UTC day, YYYY-MM-DD")]
Run = Annotated[str, typer.Option("--run", help="name of the run, written into every row")]
Expect = Annotated[str | None, typer.Option("--expect", help="config hash; a task file with another one is refused")]
Chosen = Annotated[Strategy | None, typer.Option("--strategy", help="what to train on, instead of the task file's")]
Sample = Annotated[
    int | None, typer.Option("--sample", min=1, help="documents in all, instead of the task file's sample and extra")
]


def _done(manifest: Manifest) -> None:
    emit(manifest.model_dump_json())


@app.command()
def ingest(task: Task, partition: Day, run: Run = "cli", expect: Expect = None) -> None:
    """Read the day's landing files into `documents`."""
    from llambert_etl.steps.ingest import ingest

    found, day, clients = open_step(task, partition, expect)
    _done(ingest(found, day, run=run, lake=clients.lake, settings=clients.settings))


@app.command()
def annotate(
    task: Task,
    partition: Day,
    run: Run = "cli",
    expect: Expect = None,
    strategy: Chosen = None,
    sample: Sample = None,
) -> None:
    """Let the LLM annotate the sample as of the day, into `annotations`."""
    from llambert_etl.llm.annotators import open_annotator
    from llambert_etl.llm.prompts import prompt_hash
    from llambert_etl.llm.spending import Spending
    from llambert_etl.steps.annotate import annotate

    found, day, clients = opened = open_step(task, partition, expect)
    size = found.sample_size(strategy, sample)  # a wrong strategy is refused before the model is opened
    if found.annotator.batch:
        from llambert_etl.steps.batch import annotate_in_batches

        work, served = open_batch(opened, run=run, sample=size)
        _done(annotate_in_batches(work, served, progress=progress("annotate")))
        return
    _done(
        annotate(
            found,
            day,
            run=run,
            lake=clients.lake,
            annotator=open_annotator(found, clients.settings),
            prompt_hash=prompt_hash(found, clients.settings.include),
            sample=size,
            spending=Spending.load(found, clients.settings),
            progress=progress("annotate"),
        )
    )


@app.command()
def estimate(
    task: Task,
    partition: Day,
    run: Run = "cli",
    expect: Expect = None,
    sample: Annotated[int | None, typer.Option(min=1, help="as it will be given to annotate")] = None,
    probe: Annotated[int, typer.Option(min=0, help="documents to ask about now; their answers are kept")] = 20,
) -> None:
    """Say what annotating the sample as of the day would take: documents, tokens, seconds and money."""
    from llambert_etl.llm.annotators import open_annotator
    from llambert_etl.llm.prompts import render
    from llambert_etl.steps.estimate import estimate

    found, _, clients = opened = open_step(task, partition, expect)
    annotator = open_annotator(found, clients.settings)
    batched = found.annotator.batch
    work = open_backlog(opened, annotator, run=run, sample=sample, step="estimate", batched=batched)
    _done(estimate(work, annotator, render(found, clients.settings.include), probe=probe))


@app.command()
def check(
    what: Annotated[Literal["documents", "annotations", "labels"], typer.Argument()],
    task: Task,
    partition: Day,
    run: Run = "cli",
    expect: Expect = None,
    strategy: Chosen = None,
    sample: Sample = None,
) -> None:
    """Hold the gate: exit 65 and say what was observed and expected where it fails."""
    from llambert_etl.llm.prompts import prompt_hash
    from llambert_etl.steps.check import check_annotations, check_documents, check_labels

    found, day, clients = open_step(task, partition, expect)
    lake, hashed = clients.lake, prompt_hash(found, clients.settings.include)
    if what == "documents":
        _done(check_documents(found, day, run=run, lake=lake))
        return
    if what == "annotations":
        size = found.sample_size(strategy, sample)
        _done(check_annotations(found, day, run=run, lake=lake, prompt_hash=hashed, sample_size=size))
        return
    plan = read_plan(lake, found.name, day, run)
    staged = merge(plan, read_shards(lake, plan))
    manifest = check_labels(
        found,
        day,
        run=run,
        lake=lake,
        staged=lake.scan_staged("labels", found.name, day, staged),
        documents_version=plan.documents_version,
        prompt_hash=hashed,
    )
    record_check(lake, plan, staged)
    _done(manifest)


@app.command()
def train(
    task: Task,
    partition: Day,
    run: Run = "cli",
    expect: Expect = None,
    strategy: Chosen = None,
    sample: Sample = None,
    soft_labels: Annotated[
        bool | None,
        typer.Option("--soft-labels/--hard-labels", help="learn from the LLM's probabilities, or from its labels"),
    ] = None,
) -> None:
    """Fine-tune, evaluate and register a candidate encoder as of the day."""
    from llambert_etl.llm.prompts import prompt_hash
    from llambert_etl.steps.train import train

    found, day, clients = open_step(task, partition, expect)
    _done(
        train(
            found,
            day,
            run=run,
            lake=clients.lake,
            registry=clients.registry,
            settings=clients.settings,
            prompt_hash=prompt_hash(found, clients.settings.include),
            strategy=strategy,
            sample_size=sample,
            soft_labels=soft_labels,
        )
    )


@app.command()
def promote(
    task: Task,
    partition: Day,
    run: Run = "cli",
    expect: Expect = None,
    to: Annotated[int | None, typer.Option(min=1, help="roll back (or on) to this version")] = None,
    keep: Annotated[str | None, typer.Option(help="let the champion stay, for this reason")] = None,
    approved: Annotated[str | None, typer.Option(help="who wants the move, and why: for the audit log")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would change, move nothing")] = False,
) -> None:
    """Compare candidate and champion on gold, and move the champion alias where the gate passes."""
    from llambert_etl.steps.promote import promote

    found, day, clients = open_step(task, partition, expect)
    _done(
        promote(
            found,
            day,
            run=run,
            lake=clients.lake,
            registry=clients.registry,
            to=to,
            keep=keep,
            approved=approved,
            dry_run=dry_run,
        )
    )


@app.command()
def study(
    kind: Annotated[StudyKind, typer.Argument()],
    task: Task,
    partition: Day,
    run: Run = "cli",
    expect: Expect = None,
    seeds: Annotated[str | None, typer.Option(help="instead of the plan's, such as 1,2,3")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the table and the plot")] = None,
) -> None:
    """Compare strategies, sizes, wrong labels, prompts or annotators; include/studies/TASK.yaml says which."""
    from llambert_etl.llm.prompts import prompt_hash
    from llambert_etl.steps.study import study
    from llambert_etl.studies.subject import Subject

    found, day, clients = open_step(task, partition, expect)
    settings = clients.settings
    subject = Subject(
        task=found,
        partition=day,
        run=run,
        plan=load_plan(settings.include, found, seeds),
        prompt_hash=prompt_hash(found, settings.include),
        lake=clients.lake,
        settings=settings,
    )
    registry = clients.registry if settings.mlflow_uri else None
    folder = out or settings.state / "studies" / found.name / kind
    _done(study(kind, subject, registry=registry, out=folder, progress=progress(f"study {kind}")))


@app.command()
def relabel(
    task: Task,
    partition: Day,
    upto: Annotated[str, typer.Option(help="the last day, YYYY-MM-DD")],
    run: Run = "cli",
    expect: Expect = None,
) -> None:
    """List the days from --partition to --upto that have documents: those that Airflow is to label again."""
    from llambert_etl.steps.relabel import relabel

    found, day, clients = open_step(task, partition, expect)
    _done(relabel(found, day, run=run, upto=parse_partition(upto), lake=clients.lake))


@app.command("training-due")
def training_due(
    task: Task,
    partition: Day,
    run: Run = "cli",
    expect: Expect = None,
    force: Annotated[bool, typer.Option("--force", help="due whatever the counts say")] = False,
) -> None:
    """Decide whether the day's new documents are reason enough to train again."""
    from llambert_etl.steps.training_due import training_due

    found, day, clients = open_step(task, partition, expect)
    trained = clients.registry.decided_upto(found.name)
    _done(training_due(found, day, run=run, lake=clients.lake, trained=trained, force=force))


@app.command()
def plan(
    task: Task,
    partition: Day,
    run: Run = "cli",
    expect: Expect = None,
    model_version: Annotated[int | None, typer.Option(min=1, help="instead of the champion")] = None,
) -> None:
    """Pin the model version of a label run and cut the day into shards."""
    from llambert_etl.steps.plan import plan

    found, day, clients = open_step(task, partition, expect)
    _done(
        plan(
            found,
            day,
            run=run,
            lake=clients.lake,
            registry=clients.registry,
            settings=clients.settings,
            model_version=model_version,
        )
    )


@app.command()
def label(
    task: Task,
    partition: Day,
    shard: Annotated[int, typer.Option(min=0, help="which shard of the plan")],
    run: Run = "cli",
    expect: Expect = None,
) -> None:
    """Label one shard of the run's plan and stage the rows, unseen by readers."""
    from llambert_etl.steps.label import Classifier, label

    found, day, clients = open_step(task, partition, expect)

    def load(plan: Plan) -> Classifier:
        from llambert_etl.encoder.inference import Encoder
        from llambert_etl.models import fetch

        return Encoder.load(fetch(lake, plan.model, clients.settings.model_cache))

    lake = clients.lake
    _done(label(found, day, run=run, shard=shard, lake=lake, load=load, progress=progress(f"label shard {shard}")))


@app.command()
def publish(task: Task, partition: Day, run: Run = "cli", expect: Expect = None) -> None:
    """Make the run's checked labels visible in one commit."""
    from llambert_etl.steps.publish import publish

    found, day, clients = open_step(task, partition, expect)
    _done(publish(found, day, run=run, lake=clients.lake))


@app.command()
def export(task: Task, partition: Day, run: Run = "cli", expect: Expect = None) -> None:
    """Bring the day's published labels to each place of the task file's `export`."""
    from llambert_etl.steps.export import export

    found, day, clients = open_step(task, partition, expect)
    _done(export(found, day, run=run, lake=clients.lake, settings=clients.settings))


@app.command()
def maintain(
    retention_days: Annotated[int, typer.Option(min=7, help="how long old versions of the tables can be read")] = 7,
) -> None:
    """Compact and vacuum every table (retention: seven days or more)."""
    from llambert_etl.steps.maintain import maintain

    emit(json.dumps(maintain(lake=Clients().lake, days=retention_days)))
