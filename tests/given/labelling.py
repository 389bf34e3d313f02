"""What a label run needs: documents of a day, and a registry's versions without a server."""

import contextlib
import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from llambert_etl.config import LabellingTask
from llambert_etl.corpus.documents import hash_text
from llambert_etl.errors import TransientError
from llambert_etl.labelling.plan import Plan, read_plan
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.registry import ModelVersion
from llambert_etl.run import Run
from llambert_etl.schemas import TABLES
from llambert_etl.settings import Settings
from llambert_etl.steps.check import check_labels
from llambert_etl.steps.label import Classifier, Probabilities, label
from llambert_etl.steps.plan import plan
from llambert_etl.steps.publish import publish

DAY, NEXT = Partition("2026-11-10"), Partition("2026-11-11")


class Shelf:
    """Versions by number, their files and the one that is champion: what `plan` asks a registry for."""

    def __init__(self, task: LabellingTask, champion: int | None) -> None:
        self.task, self.now, self.down = task, champion, False
        self._files = tempfile.TemporaryDirectory()

    def champion(self, _: str) -> ModelVersion | None:
        if self.down:
            raise TransientError("registry: no answer")
        return None if self.now is None else self.version(self.task.name, self.now)

    def unfit(self, _: str, number: int) -> str | None:
        return None

    def decision(self, _: ModelVersion) -> str:
        return ""

    def announced_move(self, _: ModelVersion) -> int | None:
        return None

    def version(self, name: str, number: int) -> ModelVersion:
        return ModelVersion(
            task=name,
            name=f"llambert.{name}",
            version=number,
            run_id=f"run{number}",
            hashes={"model.safetensors": hashlib.sha256(str(number).encode()).hexdigest()},
            metrics={},
            labels=self.task.label_names,
            config_hash=self.task.config_hash,
            partition=DAY,
        )

    def download(self, version: ModelVersion) -> Path:
        if self.down:
            raise TransientError("registry: no answer")
        folder = Path(self._files.name) / str(version.version)
        folder.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError), (folder / "model.safetensors").open("x") as file:
            file.write(str(version.version))
        return folder


def drop(
    lake: Lake, task: LabellingTask, texts: list[str], day: Partition = DAY, key: str = "drop", refused: int = 0
) -> None:
    rows: list[dict[str, object]] = [
        {
            "task": task.name,
            "partition": day,
            "id": f"{day}-{number}",
            "status": "accepted",
            "text": text,
            "text_hash": hash_text(text),
        }
        for number, text in enumerate(texts)
    ]
    # The same id again is refused, and kept with its hash and without its text.
    same = {"id": f"{day}-0", "text_hash": hash_text(texts[0])} if texts else {}
    rows += [{"task": task.name, "partition": day, "status": "rejected", "reason": "duplicate_id", **same}] * refused
    table = pa.Table.from_pylist(rows, schema=TABLES["documents"].schema)
    staged = lake.stage("documents", task.name, day, [table], name="drop")
    manifest = Manifest(step="ingest", task=task.name, partition=day, run="drop")
    lake.replace_partition("documents", task.name, day, staged, commit_key=key, manifest=manifest)


Loads = Callable[[Plan], Classifier]


class Parity:
    """A classifier that looks at a text's last character, and remembers what it was asked."""

    def __init__(self, labels: int) -> None:
        self.labels, self.asked = labels, list[str]()

    def __call__(self, _: Plan) -> "Parity":
        return self

    def predict(self, texts: list[str]) -> Probabilities:
        self.asked += texts
        rows = np.full((len(texts), self.labels), 0.1)
        for row, text in enumerate(texts):
            rows[row, ord(text[-1]) % self.labels] = 0.9
        return rows / rows.sum(axis=1, keepdims=True)


def quiet(done: int, total: int) -> None:
    """Report no progress."""


def run_shard(
    lake: Lake,
    task: LabellingTask,
    settings: Settings,
    day: Partition,
    run: str,
    shard: int,
    load: Loads,
    **patience: float,
) -> Manifest:
    here = settings.model_copy(update={"lake": lake.uri})
    return label(Run(task, day, run), shard=shard, lake=lake, settings=here, load=load, progress=quiet, **patience)


def run_shards(
    lake: Lake, task: LabellingTask, settings: Settings, day: Partition, run: str, classifier: Loads
) -> Plan:
    made = read_plan(lake, task.name, day, run)
    for shard in range(made.shards):
        run_shard(lake, task, settings, day, run, shard, classifier)
    return made


def finish(lake: Lake, task: LabellingTask, day: Partition, run: str) -> Manifest:
    """Hold the gate, note that it was passed, and publish."""
    check_labels(Run(task, day, run), lake=lake, prompt_hash="p")
    return publish(Run(task, day, run), lake=lake)


def label_run(
    lake: Lake, task: LabellingTask, shelf: Shelf, settings: Settings, run: str = "r1", day: Partition = DAY
) -> tuple[Manifest, Parity]:
    """Run plan, every shard, the gate and publish; return the last manifest and the classifier."""
    classifier = Parity(len(task.labels))
    planned = plan(Run(task, day, run), lake=lake, registry=shelf, settings=settings)  # type: ignore[arg-type]
    if planned.facts["skip"] or planned.facts["fresh"]:
        return planned, classifier
    run_shards(lake, task, settings, day, run, classifier)
    return finish(lake, task, day, run), classifier


def labels(lake: Lake, task: LabellingTask, day: Partition = DAY) -> dict[str, tuple[str, int]]:
    rows = lake.scan("labels", task.name, day).collect()
    assert rows["id"].is_unique().all()
    return {row["id"]: (row["label"], row["model_version"]) for row in rows.iter_rows(named=True)}
