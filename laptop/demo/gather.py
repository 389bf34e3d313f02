"""Gathers the Summary from the tables, the registry and the runs that Airflow lists."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import polars as pl
from typing_extensions import TypeIs

from laptop.airflow_client import Run
from laptop.demo.data import DAYS, Review
from laptop.demo.follow import StepRecord
from laptop.demo.summary import Accuracy, Night, Prediction, Refusal, Runs, Stage, Step, Summary, Trained
from llambert_etl import facts
from llambert_etl.config import LabellingTask
from llambert_etl.corpus.answers import decided, outcomes
from llambert_etl.corpus.documents import hash_text
from llambert_etl.errors import DataError
from llambert_etl.lake import Lake, collect
from llambert_etl.manifest import Manifest
from llambert_etl.registry import Registry
from llambert_etl.schemas import AnnotationStatus, DocumentStatus, TableName
from llambert_etl.settings import Settings
from llambert_etl.steps.predict import predict

_LABEL_DAG = "__label"
_REJECTED = pl.col("status") == DocumentStatus.REJECTED


class Watched(NamedTuple):
    """What the driver saw while it followed Airflow."""

    landed: Mapping[str, int]
    steps: Sequence[StepRecord]
    runs: Sequence[Run]
    parts: Mapping[str, float]


def gather(
    task: LabellingTask,
    *,
    settings: Settings,
    lake: Lake,
    registry: Registry,
    watched: Watched,
    reviews: Sequence[Review],
    questions: Sequence[str],
) -> Summary:
    """Read everything back from where it was stored. Raise DataError where there is no champion."""
    champion = registry.champion(task.name)
    if champion is None:
        raise DataError(f"{task.name}: the demo ended without a champion")
    predictions = predict(task, questions, lake=lake, registry=registry)
    return Summary(
        task=task.name,
        annotator=task.annotator.model,
        encoder=task.encoder.model,
        champion=champion.version,
        stages=_stages(task, lake, watched.landed),
        annotations=outcomes(task.name, lake),
        gold=_counts(task, lake, "gold", "split"),
        refusals=refusals(task, lake),
        accuracy=_accuracies(task, lake, reviews),
        trained=_trained(watched),
        steps=_steps(watched),
        last_night=last_night(watched),
        runs=runs_of_labels(task, lake, watched),
        predictions=[Prediction(text=text, label=label, probabilities=each) for text, label, each in predictions],
        parts=dict(watched.parts),
        lake=lake.uri,
        s3_endpoint=settings.s3_endpoint or "AWS",
        seconds=round(sum(watched.parts.values()), 1),
        machine=_machine(),
    )


def _machine() -> str:
    from llambert_etl.compute.device import native_bf16

    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores {'with' if native_bf16() else 'without'} native bf16"


def _stages(task: LabellingTask, lake: Lake, landed: Mapping[str, int]) -> list[Stage]:
    documents = collect(lake.scan("documents", task.name).group_by("partition", "status").len())
    counts = {(day, status): count for day, status, count in documents.iter_rows()}
    labels = lake.scan("labels", task.name).group_by("partition").agg(pl.len(), pl.col("model_version").unique())
    labelled = {day: (count, versions) for day, count, versions in collect(labels).iter_rows()}
    return [
        Stage(
            partition=day,
            landed=landed[day],
            accepted=counts.get((day, DocumentStatus.ACCEPTED.value), 0),
            rejected=counts.get((day, DocumentStatus.REJECTED.value), 0),
            labelled=labelled.get(day, (0, []))[0],
            model_versions=sorted(labelled.get(day, (0, []))[1]),
        )
        for day in DAYS
    ]


def refusals(task: LabellingTask, lake: Lake) -> list[Refusal]:
    """Return every reason with one place where it was met."""
    place = (pl.col("source").str.split("/").list.last() + ", " + pl.col("place")).first()
    found = (
        lake.scan("documents", task.name)
        .filter(_REJECTED)
        .sort("source", "place")
        .group_by("partition", "reason")
        .agg(pl.len(), place.alias("example"))
        .sort("partition", "len", "reason", descending=[False, True, False])
    )
    return [
        Refusal(partition=day, reason=reason, count=count, example=example)
        for day, reason, count, example in collect(found).iter_rows()
    ]


def _counts(task: LabellingTask, lake: Lake, table: TableName, column: str) -> dict[str, int]:
    found = collect(lake.scan(table, task.name).group_by(column).len().sort("len", descending=True))
    return {str(value): count for value, count in found.iter_rows()}


def _accuracies(task: LabellingTask, lake: Lake, reviews: Sequence[Review]) -> list[Accuracy]:
    """Hold the LLM and the encoder against gold, and against the labels that the corpus has for everything else.

    The LLM saw no gold, so every gold row that it annotated counts; the encoder may have learnt from the train split.
    """
    truth = pl.LazyFrame(
        [(hash_text(review.text), review.label) for review in reviews], schema=["text_hash", "truth"], orient="row"
    ).unique("text_hash")
    gold = lake.scan("gold", task.name).select("text_hash", pl.col("label").alias("truth"), "split").unique("text_hash")
    test = gold.filter(pl.col("split") == "test")
    annotated = decided(lake.scan("annotations", task.name)).filter(pl.col("status") == AnnotationStatus.LABELLED)
    labels = lake.scan("labels", task.name).unique("text_hash")
    return [
        _accuracy("LLM", "gold rows in its sample", annotated, gold),
        _accuracy("LLM", "its whole sample, by the corpus's labels", annotated, truth),
        _accuracy("encoder", "gold, test rows (never learnt from)", labels, test),
        _accuracy("encoder", "every published label, by the corpus's labels", labels, truth),
    ]


def _accuracy(who: str, on: str, answers: pl.LazyFrame, truth: pl.LazyFrame) -> Accuracy:
    joined = answers.join(truth, on="text_hash").select((pl.col("label") == pl.col("truth")).sum(), pl.len())
    right, of = collect(joined).row(0)
    return Accuracy(who=who, on=on, right=right, of=of)


def _trained(watched: Watched) -> list[Trained]:
    """Return one row for each version that was trained, with what became of it, and for what it was on the way."""
    decisions = {
        record.run: facts.Decided.of(record.manifest).decision
        for record in watched.steps
        if _is(record.manifest, "promote")
    }
    found = []
    for record in watched.steps:
        if not _is(record.manifest, "train"):
            continue
        training, trained = facts.Training.of(record.manifest), facts.Trained.of(record.manifest)
        metrics, version = dict(trained.metrics), trained.model_version
        decision = decisions.get(record.run, "not decided")
        found.append(Trained(strategy=training.strategy, version=version, metrics=metrics, decision=decision))
        on_llm = {f"gold.{name[8:]}": value for name, value in metrics.items() if name.startswith("stage_1.")}
        if on_llm:
            decision = f"what version {version} was before it saw gold"
            found.append(Trained(strategy="llm", version=None, metrics=on_llm, decision=decision))
    return found


def _is(manifest: Manifest | None, step: str) -> TypeIs[Manifest]:
    return manifest is not None and manifest.step == step


def _steps(watched: Watched) -> list[Step]:
    return [
        Step(
            partition=record.partition,
            dag=record.dag.rpartition("__")[2],
            step=record.step,
            run=record.run,
            rows=record.manifest.rows.get("read", 0),
            seconds=record.manifest.seconds,
            in_airflow=record.seconds,
        )
        for record in watched.steps
        if record.manifest is not None and record.partition in DAYS
    ]


def last_night(watched: Watched) -> Night:
    """Account for the last day: what was inferred, and that no LLM was asked."""
    day = DAYS[-1]
    manifests = [record.manifest for record in watched.steps if record.partition == day and record.manifest is not None]
    shards = [manifest.rows for manifest in manifests if manifest.step == "label"]
    return Night(
        partition=day,
        documents=sum(rows["read"] for rows in shards),
        inferred=sum(rows["inferred"] for rows in shards),
        reused=sum(rows["reused"] for rows in shards),
        llm_calls=sum(manifest.rows.get("read", 0) for manifest in manifests if manifest.step == "annotate"),
        seconds=round(sum(record.seconds for record in watched.steps if record.partition == day), 1),
    )


def runs_of_labels(task: LabellingTask, lake: Lake, watched: Watched) -> Runs:
    kinds = {run.run_id: run.kind for run in watched.runs if run.dag.endswith(_LABEL_DAG)}
    named = collect(lake.scan("labels", task.name).group_by("run").len())
    rows: Counter[str] = Counter()
    for run, count in named.iter_rows():
        rows[kinds.get(run, "unlisted")] += count
    return Runs(rows_by_kind=dict(rows), unlisted=sorted(run for run, _ in named.iter_rows() if run not in kinds))
