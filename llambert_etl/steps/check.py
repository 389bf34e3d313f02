"""Hold the gate between two steps: measure, evaluate, write Data Docs, and stop the run where it fails."""

import logging
from dataclasses import asdict

import polars as pl

from llambert_etl.config import LabellingTask
from llambert_etl.corpus.answers import answered_twice, decided, failed_for_good, labelled_answers, question, rows_about
from llambert_etl.corpus.documents import ingested
from llambert_etl.corpus.gold import gold_shares
from llambert_etl.corpus.rare import tell_rarest
from llambert_etl.corpus.sampling import sample
from llambert_etl.errors import DataError
from llambert_etl.labelling.plan import merge, read_plan, read_shards, record_check
from llambert_etl.lake import Lake, Snapshot, collect, count
from llambert_etl.manifest import Manifest
from llambert_etl.pages import report_name
from llambert_etl.partition import Partition
from llambert_etl.quality import (
    MIN_ROWS_FOR_SHARES,
    Kind,
    Profile,
    Reference,
    Validation,
    build_suite,
    count_labels,
    profile_annotations,
    profile_documents,
    profile_labels,
    render,
    validate,
)
from llambert_etl.run import Run
from llambert_etl.schemas import DocumentStatus

logger = logging.getLogger(__name__)

# How many partitions a volume or a label distribution is compared with: a week of days.
_RECENT = 7
_SERVED = "the last good state stays served"
_RARE_HELPS = "a larger annotator.sample has more of it, and gates.min_label_share says how few are enough"


def check_documents(run: Run, *, lake: Lake) -> Manifest:
    """Hold the gate after `ingest`: what the partition's documents are like, beside those of the days before."""
    ingested(lake, run.task.name, run.partition)
    tables = lake.snapshot("documents")
    return _hold("documents", run, lake, tables, _documents(run.task, run.partition, tables))


def check_annotations(run: Run, *, lake: Lake, prompt_hash: str, sample_size: int | None = None) -> Manifest:
    """Hold the gate after `annotate`, over the sample that was asked with `prompt_hash`; give the size it was given."""
    task, partition = run.task, run.partition
    tables = lake.snapshot("documents", "annotations", "gold")
    profile = _annotations(task, partition, tables, prompt_hash, task.sample_size(asked=sample_size))
    if profile.label_counts:
        tell_rarest(f"annotations {task.name} {partition}", profile.label_counts, _RARE_HELPS)
    return _hold("annotations", run, lake, tables, profile)


def check_labels(run: Run, *, lake: Lake, prompt_hash: str) -> Manifest:
    """Hold the gate before `publish` over all that the run's shards have staged, and note which files passed it."""
    plan = read_plan(lake, run.task.name, run.partition, run.name)
    staged = merge(plan, read_shards(lake, plan))
    manifest = check_staged(
        run,
        lake=lake,
        staged=lake.scan_staged("labels", run.task.name, run.partition, staged),
        documents_version=plan.documents_version,
        prompt_hash=prompt_hash,
    )
    record_check(lake, plan, staged)
    return manifest


def check_staged(run: Run, *, lake: Lake, staged: pl.LazyFrame, documents_version: int, prompt_hash: str) -> Manifest:
    """Hold the staged rows against the documents of the version that was planned."""
    task, partition = run.task, run.partition
    tables = lake.snapshot("labels", "annotations", "gold", at={"documents": documents_version})
    documents = tables.scan("documents", task.name, partition)
    reference = _reference(task, partition, tables, staged, prompt_hash)
    accepted = documents.filter(pl.col("status") == DocumentStatus.ACCEPTED)
    refused = count(documents.filter(pl.col("status") == DocumentStatus.REJECTED))
    profile = profile_labels(staged, accepted, task.label_names, reference, refused)
    return _hold("labels", run, lake, tables, profile)


def _hold(kind: Kind, run: Run, lake: Lake, tables: Snapshot, profile: Profile) -> Manifest:
    """Return a manifest whose facts hold the profile, every outcome and the report's address.

    Raise DataError, after the report is written, where an expectation fails.
    """
    task, partition = run.task, run.partition
    gold = {} if kind == "documents" else gold_shares(task, tables)
    suite, skipped = build_suite(task, profile, gold)
    validation = validate(f"{task.name} {kind}", profile, suite)
    page = render(task, partition, run.name, profile, validation, skipped)
    report = lake.write_report(task.name, partition, report_name(kind, run.name), page)
    _log(kind, task, partition, validation, report)
    if validation.failures:
        reasons = "; ".join(outcome.sentence() for outcome in validation.failures)
        raise DataError(f"check {kind} {task.name} {partition}: {reasons}; {_SERVED}; report: {report}")
    return run.manifest(
        "check",
        rows={"read": sum(profile.outcomes.values()), **profile.outcomes},
        reasons=profile.reasons,
        versions_read=tables.versions,
        facts=_facts(kind, profile, validation, skipped, report),
    )


def _documents(task: LabellingTask, partition: Partition, tables: Snapshot) -> Profile:
    earlier = [str(day) for day in tables.partitions("documents", task.name) if day < partition][-_RECENT:]
    recent = tables.scan("documents", task.name).filter(
        pl.col("partition").is_in(earlier), pl.col("status") == DocumentStatus.ACCEPTED
    )
    volumes = collect(recent.group_by("partition").len(), engine="streaming")
    return profile_documents(tables.scan("documents", task.name, partition), volumes["len"].to_list())


def _annotations(task: LabellingTask, partition: Partition, tables: Snapshot, prompt_hash: str, size: int) -> Profile:
    chosen = sample(tables, task.name, partition, size, task.annotator.seed)
    rows = rows_about(question(task, prompt_hash), task.name, tables)
    asked = rows.join(chosen.lazy().select("text_hash"), on="text_hash", how="semi")
    return profile_annotations(
        decided(asked),
        chosen.height,
        task.label_names,
        twice=count(answered_twice(asked)),
        for_good=count(failed_for_good(asked)),
    )


def _reference(
    task: LabellingTask, partition: Partition, tables: Snapshot, staged: pl.LazyFrame, prompt_hash: str
) -> Reference | None:
    """Choose what the staged label shares are compared with: the first of these that has enough rows.

    The same model version on other partitions, so that a change is the data's and not the model's; what this partition
    serves now; what the encoder learnt from.
    """
    version = collect(staged.select("model_version").head(1))
    if version.is_empty():
        return None
    days = [day for day in tables.partitions("labels", task.name) if day != partition][-_RECENT:]
    published = tables.scan("labels", task.name)
    others = published.filter(pl.col("partition").is_in([str(day) for day in days]))
    number = version.item()
    learnt = labelled_answers(task, tables, prompt_hash)
    candidates = [
        (f"model version {number} on other partitions", others.filter(pl.col("model_version") == number)),
        (f"labels now served for {partition}", tables.scan("labels", task.name, partition)),
        ("the LLM's labels", learnt),
    ]
    for source, rows in candidates:
        found = Reference(source, count_labels(rows, task.label_names))
        if found.rows >= MIN_ROWS_FOR_SHARES:
            return found
    return None


def _facts(
    kind: Kind, profile: Profile, validation: Validation, skipped: dict[str, str], report: str
) -> dict[str, object]:
    reference = profile.reference
    return {
        "gate": kind,
        "report": report,
        "profile": {
            "measures": profile.measures,
            "label_counts": profile.label_counts,
            "label_shares": profile.label_shares,
            "reference": {"source": reference.source, "counts": dict(reference.counts)} if reference else None,
        },
        "expectations": [asdict(outcome) for outcome in validation.outcomes],
        "skipped": skipped,
    }


def _log(kind: Kind, task: LabellingTask, partition: Partition, validation: Validation, report: str) -> None:
    for outcome in validation.outcomes:
        if not outcome.passed and not outcome.stops:
            logger.warning("check %s %s %s: %s", kind, task.name, partition, outcome.sentence())
    logger.info("check %s %s %s: report %s", kind, task.name, partition, report)
