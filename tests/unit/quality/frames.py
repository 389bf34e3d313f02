"""Rows that pass every gate, for tests that then spoil one thing."""

import hashlib
from typing import Any

import polars as pl
import pyarrow as pa

from llambert_etl.config import LabellingTask, fingerprint
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.quality import Reference
from llambert_etl.schemas import TABLES, TableName

DAY = "2026-11-10"
ROWS = 300

Row = dict[str, Any]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def frame(table: TableName, rows: list[Row]) -> pl.LazyFrame:
    """Return rows with the table's declared columns and types."""
    empty = pl.from_arrow(TABLES[table].schema.empty_table())
    return pl.LazyFrame(rows, schema=empty.schema)


def documents(task: LabellingTask, n: int = ROWS) -> list[Row]:
    accepted = [
        {
            "task": task.name,
            "partition": DAY,
            "id": f"d{i}",
            "status": "accepted",
            "reason": None,
            "source": "a.jsonl",
            "place": f"line {i}",
            "text": f"text {i}",
            "text_hash": digest(f"text {i}"),
            "run": "r",
        }
        for i in range(n)
    ]
    refused = {**accepted[0], "id": "bad", "status": "rejected", "reason": "empty", "text": None, "text_hash": None}
    return [*accepted, refused]


def probabilities(task: LabellingTask, label: str, confidence: float = 0.9) -> list[dict[str, Any]]:
    rest = (1.0 - confidence) / (len(task.labels) - 1)
    return [{"label": name, "probability": confidence if name == label else rest} for name in task.labels]


def annotations(task: LabellingTask, n: int = ROWS) -> list[Row]:
    names = task.label_names
    return [
        {
            "task": task.name,
            "partition": DAY,
            "id": f"d{i}",
            "text_hash": digest(f"text {i}"),
            "prompt_hash": "p",
            "model": task.annotator.model,
            "revision": task.annotator.revision,
            "parser_version": "1",
            "status": "labelled",
            "reason": None,
            "label": names[i % len(names)],
            "probabilities": probabilities(task, names[i % len(names)]),
            "reply": names[i % len(names)],
            "tokens": 5,
            "run": "r",
        }
        for i in range(n)
    ]


def labels(task: LabellingTask, n: int = ROWS) -> list[Row]:
    names = task.label_names
    return [label_row(task, i, names[i % len(names)]) for i in range(n)]


def label_row(task: LabellingTask, i: int, label: str) -> Row:
    return {
        "task": task.name,
        "partition": DAY,
        "id": f"d{i}",
        "text_hash": digest(f"text {i}"),
        "label": label,
        "confidence": 0.9,
        "probabilities": probabilities(task, label),
        "model_name": f"llambert.{task.name}",
        "model_version": 1,
        "config_hash": task.config_hash,
        "run": "r",
    }


def even_reference(task: LabellingTask) -> Reference:
    return Reference("another day", dict.fromkeys(task.label_names, 1000))


def gold(task: LabellingTask, numbers: range, split: str) -> list[Row]:
    """Return what people say of some of `documents`: for every label the same number."""
    names = task.label_names
    return [
        {
            "task": task.name,
            "partition": DAY,
            "id": f"d{i}",
            "text": f"text {i}",
            "text_hash": digest(f"text {i}"),
            "label": names[i % len(names)],
            "split": split,
            "annotator": "ada",
            "labelled_at": None,
            "run": "r",
        }
        for i in numbers
    ]


def put(lake: Lake, table: TableName, rows: list[Row], task: LabellingTask, day: str = DAY) -> None:
    """Make the rows those of a partition, or append them where the table is only appended to."""
    partition = Partition(day)
    rows = [{**row, "partition": day} for row in rows]
    arrow = pa.Table.from_pylist(rows, schema=TABLES[table].schema)
    manifest = Manifest(step="test", task=task.name, partition=partition, run="r")
    if table in ("annotations", "gold"):
        lake.append_once(table, task.name, partition, arrow, manifest=manifest)
        return
    staged = lake.stage(table, task.name, partition, [arrow], name="test")
    key = fingerprint(rows)
    lake.replace_partition(table, task.name, partition, staged, commit_key=key, manifest=manifest)
