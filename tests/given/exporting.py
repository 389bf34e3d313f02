"""A task with labels to export, and what its exports hold."""

import json
import time
from collections.abc import Callable, Iterable
from typing import Any

import polars as pl
import pyarrow as pa
from pydantic import JsonValue, SecretStr

from llambert_etl.config import LabellingTask
from llambert_etl.corpus.documents import hash_text
from llambert_etl.exports.places import WRITERS
from llambert_etl.exports.published import PublishedPartition
from llambert_etl.exports.snapshots import Latest, read_latest
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.schemas import TABLES
from llambert_etl.settings import Settings
from llambert_etl.steps.export import export
from tests.given.labelling import DAY, Shelf, drop, label_run
from tests.given.tasks import make_task
from tests.processes.postgres import Database

TABLE = "review_labels"
WAREHOUSE = {"connection": "warehouse", "table": TABLE}
DEADLINE = 60.0
Rows = dict[str, tuple[str | None, str, int]]


class Office:
    """Labels of some days, each published when `label` is called, with the next version of the model."""

    def __init__(self, lake: Lake, settings: Settings, to: object, name: str = "reviews") -> None:
        self.lake, self.settings = lake, settings
        self.task: LabellingTask = make_task(name=name, export=to)
        self.shelf = Shelf(self.task, 0)

    def connect(self, uri: str) -> None:
        self.settings = self.settings.model_copy(update={"connections": {"warehouse": SecretStr(uri)}})

    def drop(self, *texts: str, day: Partition = DAY) -> None:
        drop(self.lake, self.task, list(texts), day, key=repr(texts))

    def label(self, *texts: str, day: Partition = DAY) -> int:
        """Publish labels of the day, of these texts where some are given; return the version of the model."""
        if texts:
            self.drop(*texts, day=day)
        self.shelf.now = (self.shelf.now or 0) + 1
        label_run(self.lake, self.task, self.shelf, self.settings, run=f"v{self.shelf.now}", day=day)
        return self.shelf.now

    def publish(self, day: Partition) -> None:
        """Publish one label of a day without a run of shards: a tenth of the time."""
        drop(self.lake, self.task, [f"text of {day}"], day)
        row = {"task": self.task.name, "partition": day, "id": f"{day}-0", "text_hash": hash_text(f"text of {day}")}
        labels = pa.Table.from_pylist([{**row, "label": "positive"}], schema=TABLES["labels"].schema)
        staged = self.lake.stage("labels", self.task.name, day, [labels], name="shard-0")
        facts: dict[str, JsonValue] = {"model_version": 1}
        rows = {"read": 1, "inferred": 1}
        manifest = Manifest(step="publish", task=self.task.name, partition=day, run="r", rows=rows, facts=facts)
        self.lake.replace_partition("labels", self.task.name, day, staged, commit_key="1", manifest=manifest)

    def export(self, day: Partition = DAY, run: str = "r1") -> Manifest:
        return export(Run(self.task, day, run), lake=self.lake, settings=self.settings)

    def bring(self, published: PublishedPartition, batches: Iterable[pa.RecordBatch]) -> str:
        """Bring these rows to the task's place, whatever was published."""
        (place,) = self.task.export
        return WRITERS[type(place)](place, published, batches, run="r", lake=self.lake, settings=self.settings)

    def outcome(self, day: Partition = DAY) -> str:
        (outcome,) = dict(self.export(day).facts["exports"]).values()  # type: ignore[arg-type]
        return str(outcome)

    def published(self, day: Partition = DAY) -> Rows:
        """Return what an export must hold."""
        texts = self.lake.scan("documents", self.task.name, day).select("id", "text_hash", "text").collect()
        labels = self.lake.scan("labels", self.task.name, day).select("id", "text_hash", "label", "model_version")
        joined = labels.collect().join(texts, on=["id", "text_hash"], how="left")
        return by_id(joined.select("id", "text", "label", "model_version"))

    @property
    def latest(self) -> Latest:
        return read_latest(self.lake, self.task.name)

    def snapshot(self, latest: Latest | None = None) -> Rows:
        """Read the files that `latest.json` names, as whoever follows it does."""
        files = [f"exports/{self.task.name}/{file.path}" for file in (latest or self.latest).files]
        found = pl.concat(pl.read_parquet(self.lake.storage.open(file)) for file in files)
        assert found["id"].is_unique().all()
        return by_id(found.select("id", "text", "label", "model_version"))

    def folders(self) -> set[str]:
        files = self.lake.storage.list(f"exports/{self.task.name}")
        return {info.path.rpartition("/")[0] for info in files if info.base_name == "labels.parquet"}


def by_id(frame: pl.DataFrame) -> Rows:
    return {key: (text, label, version) for key, text, label, version in frame.iter_rows()}


def warehouse_rows(database: Database, day: Partition = DAY, table: str = TABLE) -> Rows:
    query = f"SELECT id, text, label, model_version FROM {table} WHERE partition = '{day}'"
    return {key: (text, label, version) for key, text, label, version in database.rows(query)}


def exporting(task: LabellingTask, settings: Settings) -> int:
    """Export. Runs in a fork."""
    manifest = export(Run(task, DAY, "fork"), lake=Lake.from_settings(settings), settings=settings)
    print(json.dumps(manifest.facts))
    return 0


def wait_until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.02)
