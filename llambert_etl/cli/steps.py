"""The commands that lead to a champion: `llambert STEP --task NAME --partition DAY [--run RUN]`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from llambert_etl.cli.clients import Opened, open_backlog, open_batch, step_command
from llambert_etl.cli.options import CHAMPION, EXAMPLE, LOOK, PEOPLE, Chosen, Sample, to_ask
from llambert_etl.cli.outcome import progress
from llambert_etl.config import StudyKind
from llambert_etl.config.fields import MOST
from llambert_etl.manifest import Manifest
from llambert_etl.partition import today
from llambert_etl.studies.plan import load_plan

app = typer.Typer(no_args_is_help=True, add_completion=False)


@step_command(app, f"ingest {EXAMPLE}", CHAMPION)
def ingest(
    opened: Opened,
    missed: Annotated[
        bool,
        typer.Option("--missed", help="and the days of the week before on which no run has, though one had before"),
    ] = False,
) -> Manifest:
    """Read the day's landing files into `documents`, and past days' whose files have changed."""
    from llambert_etl.steps.ingest import ingest

    return ingest(opened.run, lake=opened.clients.lake, settings=opened.clients.settings, missed=missed)


@step_command(app, f"annotate {EXAMPLE}", CHAMPION)
def annotate(
    opened: Opened,
    strategy: Chosen = None,
    sample: Sample = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="ask again about documents that have failed for good")
    ] = False,
) -> Manifest:
    """Let the LLM annotate the sample as of the day, into `annotations`."""
    from llambert_etl.llm.annotators import open_annotator
    from llambert_etl.llm.spending import Spending
    from llambert_etl.steps.annotate import annotate

    this, clients = opened.run, opened.clients
    size = to_ask(this.task, strategy, sample)  # a wrong strategy is refused before the model is opened
    if this.task.annotator.in_batches:
        from llambert_etl.steps.batch import annotate_in_batches

        work, served = open_batch(opened, sample=size, retry_failed=retry_failed)
        return annotate_in_batches(work, served, clients.settings, progress=progress("annotate"))
    return annotate(
        this,
        lake=clients.lake,
        annotator=open_annotator(this.task, clients.settings),
        prompt_hash=clients.prompt_hash(this.task),
        sample=size,
        spending=Spending.load(this.task, clients.settings),
        retry_failed=retry_failed,
        progress=progress("annotate"),
    )


@step_command(app, f"estimate {EXAMPLE}", LOOK)
def estimate(
    opened: Opened,
    strategy: Chosen = None,
    sample: Sample = None,
    probe: Annotated[
        int, typer.Option(min=0, max=MOST, help="documents to ask about now; their answers are kept")
    ] = 20,
) -> Manifest:
    """Say what annotating the sample as of the day would take: documents, tokens, seconds and money."""
    from llambert_etl.llm.annotators import open_annotator
    from llambert_etl.llm.prompts import render
    from llambert_etl.llm.spending import Spending
    from llambert_etl.steps.estimate import estimate

    this, clients = opened.run, opened.clients
    size = to_ask(this.task, strategy, sample)
    annotator = open_annotator(this.task, clients.settings)
    work = open_backlog(opened, annotator, sample=size, step="estimate", batched=False)
    later = Spending.load(this.task, clients.settings, batched=this.task.annotator.in_batches)
    return estimate(work, annotator, render(this.task, clients.settings.include), probe=probe, later=later)


@step_command(app, f"check annotations {EXAMPLE}", CHAMPION)
def check(
    opened: Opened,
    what: Annotated[
        Literal["documents", "annotations", "labels"],
        typer.Argument(metavar="WHAT", show_choices=False, help="documents, annotations or labels"),
    ],
    strategy: Chosen = None,
    sample: Sample = None,
) -> Manifest:
    """Hold the gate: exit 65 and say what was observed and expected where it fails."""
    from llambert_etl.steps.check import check_annotations, check_documents, check_labels

    this, lake, hashed = opened.run, opened.clients.lake, opened.clients.prompt_hash(opened.run.task)
    if what == "documents":
        return check_documents(this, lake=lake)
    if what == "annotations":
        return check_annotations(this, lake=lake, prompt_hash=hashed, sample_size=to_ask(this.task, strategy, sample))
    return check_labels(this, lake=lake, prompt_hash=hashed)


@step_command(app, f"train {EXAMPLE}", CHAMPION)
def train(
    opened: Opened,
    strategy: Chosen = None,
    sample: Sample = None,
    soft_labels: Annotated[
        bool | None,
        typer.Option("--soft-labels/--hard-labels", help="learn from the LLM's probabilities, or from its labels"),
    ] = None,
) -> Manifest:
    """Fine-tune, evaluate and register a candidate encoder as of the day."""
    from llambert_etl.steps.train import train

    clients = opened.clients
    return train(
        opened.run,
        lake=clients.lake,
        registry=clients.registry,
        settings=clients.settings,
        prompt_hash=clients.prompt_hash(opened.run.task),
        strategy=strategy,
        sample_size=sample,
        soft_labels=soft_labels,
    )


@step_command(app, f"promote {EXAMPLE} --dry-run", CHAMPION)
def promote(
    opened: Opened,
    candidate: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="instead of the newest version of the day")
    ] = None,
    to: Annotated[int | None, typer.Option(min=1, max=MOST, help="roll back (or on) to this version")] = None,
    keep: Annotated[str | None, typer.Option(help="let the champion stay, for this reason")] = None,
    approved: Annotated[str | None, typer.Option(help="who wants the move, and why: for the audit log")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would change, move nothing")] = False,
) -> Manifest:
    """Compare candidate and champion on gold, and move the champion alias where the gate passes."""
    from llambert_etl.steps.promote import promote

    return promote(
        opened.run,
        lake=opened.clients.lake,
        registry=opened.clients.registry,
        candidate=candidate,
        to=to,
        keep=keep,
        approved=approved,
        dry_run=dry_run,
        today=today(),
    )


@step_command(app, f"study size {EXAMPLE}", PEOPLE)
def study(
    opened: Opened,
    kind: Annotated[
        StudyKind,
        typer.Argument(
            metavar="KIND", show_choices=False, help="strategies, size, mislabelling, prompts or annotators"
        ),
    ],
    seeds: Annotated[str | None, typer.Option(help="instead of the plan's, such as 1,2,3")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the table and the plot")] = None,
) -> Manifest:
    """Compare strategies, sizes, wrong labels, prompts or annotators; include/studies/TASK.yaml says which."""
    from llambert_etl.steps.study import study
    from llambert_etl.studies.subject import Subject

    this, clients, settings = opened.run, opened.clients, opened.clients.settings
    subject = Subject(
        run=this,
        plan=load_plan(settings.include, this.task, seeds),
        prompt_hash=clients.prompt_hash(this.task),
        lake=clients.lake,
        settings=settings,
    )
    registry = clients.registry if settings.mlflow_uri else None
    folder = out or settings.state / "studies" / this.task.name / kind
    return study(kind, subject, registry=registry, out=folder, progress=progress(f"study {kind}"))


@step_command(app, f"training-due {EXAMPLE}", CHAMPION, name="training-due")
def training_due(
    opened: Opened,
    force: Annotated[bool, typer.Option("--force", help="due whatever the counts say")] = False,
) -> Manifest:
    """Decide whether the day's new documents are reason enough to train again."""
    from llambert_etl.steps.training_due import training_due

    this, clients = opened.run, opened.clients
    trained = clients.registry.decided_upto(this.task.name)
    return training_due(this, lake=clients.lake, trained=trained, force=force)
