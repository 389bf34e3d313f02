"""Fill a lake with the tree on PYTHONPATH: labels of many days, or many commits.

A script, not a module: `python -P fill.py WHAT name=value...` must not import this tree's packages beside the other's.
"""

import datetime
import gzip
import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from llambert_etl.config import find_task
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.schemas import TABLES
from llambert_etl.settings import Settings
from llambert_etl.steps.maintain import maintain

TASK = "scale"
_FIRST = datetime.date(2025, 1, 1)
_CHUNK = 8_192


def history(lake: Lake, *, days: int, rows: int, landed: str, known: int) -> None:
    """Label `days` days of `rows` texts each; `known` of the texts that are landed are among them."""
    with gzip.open(landed, "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line, _ in zip(file, range(known), strict=False)]
    again = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    for number in range(days):
        day = Partition(str(_FIRST + datetime.timedelta(number)))
        own = again[number::days]
        fresh = os.urandom(32 * rows).hex()
        hashes = own + [fresh[start : start + 64] for start in range(0, 64 * (rows - len(own)), 64)]
        table = _labels(day, hashes, f"{day}-")
        chunks = [table.slice(start, _CHUNK) for start in range(0, rows, _CHUNK)]
        staged = lake.stage("labels", TASK, day, chunks, name="shard-0")
        manifest = Manifest(step="publish", task=TASK, partition=day, run="r", rows={"read": rows, "inferred": rows})
        lake.replace_partition("labels", TASK, day, staged, commit_key=str(day), manifest=manifest)


def commits(lake: Lake, *, first: int, last: int, partitions: int) -> None:
    """Replace one partition after the other, a commit each."""
    for number in range(first, last):
        day = Partition(str(_FIRST + datetime.timedelta(number % partitions)))
        staged = lake.stage("labels", TASK, day, [_labels(day, [f"{number:064x}"], "")], name="shard-0")
        manifest = Manifest(step="publish", task=TASK, partition=day, run=f"r{number}", rows={"read": 1, "inferred": 1})
        lake.replace_partition("labels", TASK, day, staged, commit_key=f"{number}", manifest=manifest)


def upkeep(lake: Lake, *, days: int) -> None:
    """Spread the commits over `days` days that end now, and maintain the lake."""
    log = Path(lake.uri) / "labels" / "_delta_log"
    numbered = [path for path in log.iterdir() if path.name[:20].isdigit()]
    newest = max(int(path.name[:20]) for path in numbered)
    for path in numbered:
        written = path.stat().st_mtime - (newest - int(path.name[:20])) / newest * days * 86_400
        os.utime(path, (written, written))
    maintain(lake=lake, settings=Settings())  # type: ignore[call-arg]


def _labels(day: Partition, hashes: list[str], prefix: str) -> pa.Table:
    count, names = len(hashes), find_task(Settings().include, TASK).label_names  # type: ignore[call-arg]
    shares = np.round(np.random.default_rng(5).random(count) * 2**16) / 2**16
    both = np.stack([1 - shares, shares], axis=1)
    entries = {"label": pa.array(list(names) * count), "probability": pa.array(both.ravel())}
    same = {
        "task": TASK,
        "partition": str(day),
        "model_name": f"llambert.{TASK}",
        "model_version": 1,
        "config_hash": "0" * 16,
        "run": "asset_triggered__2026-11-11T00:04:05.1+00:00__a",
    }
    columns = {name: pa.repeat(pa.scalar(value), count) for name, value in same.items()} | {
        "id": pa.array([f"review-{prefix}{number}" for number in range(count)]),
        "text_hash": pa.array(hashes),
        "label": pa.array(names).take(pa.array(both.argmax(axis=1))),
        "confidence": pa.array(both.max(axis=1)),
        "probabilities": pa.ListArray.from_arrays(
            pa.array(np.arange(count + 1, dtype=np.int32) * 2), pa.StructArray.from_arrays(entries.values(), entries)
        ),
    }
    schema = TABLES["labels"].schema
    return pa.table([columns[name] for name in schema.names], names=schema.names).cast(schema)


def main(what: str, *given: str) -> None:
    options = dict(pair.split("=", 1) for pair in given)
    lake = Lake.from_settings(Settings())  # type: ignore[call-arg]
    lake.create_tables()
    numbers = {name: int(value) for name, value in options.items() if name != "landed"}
    if what == "history":
        history(lake, landed=options["landed"], **numbers)
    elif what == "commits":
        commits(lake, **numbers)
    else:
        upkeep(lake, **numbers)


if __name__ == "__main__":
    main(*sys.argv[1:])
