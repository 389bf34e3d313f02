"""Documents named by single letters, and how tests write them: `content` tells at a glance what a table holds."""

import pyarrow as pa

from llambert_etl.lake import Lake, collect
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.schemas import TABLES

DAY, NEXT = Partition("2026-11-10"), Partition("2026-11-11")
TASK = "reviews"


def documents(ids: str, day: Partition = DAY) -> pa.Table:
    rows = [
        {"task": TASK, "partition": day, "id": each, "status": "accepted", "text": f"text {each}", "text_hash": each}
        for each in ids
    ]
    return pa.Table.from_pylist(rows, schema=TABLES["documents"].schema)


def manifest(run: str, day: Partition = DAY) -> Manifest:
    return Manifest(step="ingest", task=TASK, partition=day, run=run)


def content(lake: Lake, day: Partition | None = None) -> str:
    """Return the ids of the documents, one letter each, sorted."""
    return "".join(sorted(collect(lake.scan("documents", TASK, day))["id"]))


def replace(lake: Lake, ids: str, key: str | None = None) -> bool:
    staged = lake.stage("documents", TASK, DAY, [documents(ids)], name="part")
    return lake.replace_partition(
        "documents", TASK, DAY, staged, commit_key=key or ids, manifest=manifest("r1")
    ).replayed


def append(lake: Lake, ids: str, run: str = "r1") -> bool:
    return lake.append_once("documents", TASK, DAY, documents(ids), manifest=manifest(run)).replayed
