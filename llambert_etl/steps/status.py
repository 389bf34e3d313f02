"""Gather what one screen says of a task."""

import datetime
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import polars as pl

from llambert_etl.champion.moves import Standing, standing
from llambert_etl.config import LabellingTask
from llambert_etl.config.exports import Parquet
from llambert_etl.corpus.answers import outcomes
from llambert_etl.errors import ConfigError, TransientError
from llambert_etl.exports.snapshots import File, read_latest
from llambert_etl.lake import Commit, Lake, Snapshot, collect
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.registry import ModelVersion, Registry
from llambert_etl.schemas import TABLES, DocumentStatus, TableName

_RECENT_RUNS = 8


class Snapshots(NamedTuple):
    """The newest one beside the newest publish, and the labelled partitions that have none."""

    newest: File | None
    published: Commit | None
    absent: list[Partition]


@dataclass(frozen=True)
class Status:
    """`behind`: partitions whose labels are not yet the champion's. `outage`: why the registry could not be asked.

    `ahead`: the tables that have days after today. `doubt`: why the champion must not label, or is none any more.
    `never_ingested`: days without an ingest between the first and the newest documents, of the last week.
    `snapshots` is None where the task exports no Parquet.
    """

    task: LabellingTask
    documents: dict[str, int]
    refusals: dict[str, int]
    annotations: dict[str, int]
    gold: dict[str, int]
    labels: dict[str, int]
    snapshots: Snapshots | None
    behind: list[Partition]
    ahead: dict[TableName, list[Partition]]
    never_ingested: list[Partition]
    champion: ModelVersion | None
    doubt: str | None
    outage: str | None
    recent: list[Manifest]


def status(task: LabellingTask, *, lake: Lake, registry: Registry | None, today: Partition) -> Status:
    """Read the tables and the registry; a registry that is down, or not set, is part of the answer."""
    now, outage = Standing(None, None), None if registry else "LLAMBERT_MLFLOW_URI is not set"
    try:
        now = standing(task.name, lake, registry) if registry else now
    except (TransientError, ConfigError) as error:
        outage = str(error)
    tables = lake.snapshot(*TABLES)
    commits = {table: list(islice(lake.commits(table, task.name), _RECENT_RUNS)) for table in TABLES}
    documents, labels = _documents(tables, task.name), _labels(tables, task.name)
    # An id in a later partition is a newer revision.
    gold = tables.scan("gold", task.name).sort("partition").unique("id", keep="last")
    return Status(
        task=task,
        documents=_counts(documents, "status"),
        refusals=_counts(documents.filter(pl.col("status") == DocumentStatus.REJECTED), "reason"),
        annotations=outcomes(task.name, tables),
        gold=_counts(collect(gold.group_by("split").len()), "split"),
        labels=_counts(labels, "label"),
        snapshots=_snapshots(task, lake, tables, commits["labels"]) if Parquet() in task.export else None,
        behind=_behind(tables.partitions("documents", task.name), labels, now.version),
        never_ingested=_never_ingested(task, tables),
        ahead=_ahead(task, tables, today),
        champion=now.version,
        doubt=now.doubt,
        outage=outage,
        recent=_recent(commits),
    )


def _documents(tables: Snapshot, task: str) -> pl.DataFrame:
    return collect(tables.scan("documents", task).group_by("status", "reason").len(), engine="streaming")


def _labels(tables: Snapshot, task: str) -> pl.DataFrame:
    rows = tables.scan("labels", task).group_by("partition", "label")
    return collect(rows.agg(pl.len(), pl.col("model_version").max()), engine="streaming")


def _counts(rows: pl.DataFrame, column: str) -> dict[str, int]:
    counted = rows.group_by(column).agg(pl.col("len").sum()).sort("len", column, descending=[True, False])
    return {str(value): count for value, count in counted.iter_rows()}


def _snapshots(task: LabellingTask, lake: Lake, tables: Snapshot, publishes: list[Commit]) -> Snapshots:
    files = read_latest(lake, task.name).files
    held = {file.partition for file in files}
    return Snapshots(
        newest=max(files, key=lambda file: file.labels_version, default=None),
        published=next(iter(publishes), None),
        absent=[day for day in tables.partitions("labels", task.name) if day not in held],
    )


def _behind(days: list[Partition], labels: pl.DataFrame, champion: ModelVersion | None) -> list[Partition]:
    versions = labels.group_by("partition").agg(pl.col("model_version").max())
    labelled = {Partition(partition): version for partition, version in versions.iter_rows()}
    wanted = None if champion is None else champion.version
    return [day for day in days if labelled.get(day) != wanted or wanted is None]


def _ahead(task: LabellingTask, tables: Snapshot, today: Partition) -> dict[TableName, list[Partition]]:
    found = {table: [day for day in tables.partitions(table, task.name) if day > today] for table in TABLES}
    return {table: days for table, days in found.items() if days}


def _never_ingested(task: LabellingTask, tables: Snapshot) -> list[Partition]:
    """A day of which nothing is known is not one on which nothing came."""
    days = tables.partitions("documents", task.name)
    if not days:
        return []
    newest = datetime.date.fromisoformat(days[-1])
    week = [Partition(str(newest - datetime.timedelta(days=back))) for back in range(1, min(8, newest.toordinal()))]
    return sorted(day for day in week if day > days[0] and not tables.was_replaced("documents", task.name, day))


def _recent(commits: dict[TableName, list[Commit]]) -> list[Manifest]:
    """Return what the newest commits of all tables did, the newest first, whatever their partition."""
    found = [commit for each in commits.values() for commit in each]
    found.sort(key=lambda commit: commit.timestamp or 0, reverse=True)
    return [commit.manifest for commit in found[:_RECENT_RUNS] if commit.manifest is not None]
