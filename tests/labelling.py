"""What a label run needs: documents of a day, and a registry's versions without a server."""

import hashlib
import tempfile
from pathlib import Path

import pyarrow as pa

from llambert_etl.config import LabellingTask
from llambert_etl.documents import hash_text
from llambert_etl.errors import TransientError
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.registry import ModelVersion
from llambert_etl.schemas import TABLES

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
        (folder / "model.safetensors").write_text(str(version.version))
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
    rows += [{"task": task.name, "partition": day, "status": "rejected", "reason": "line_not_json"}] * refused
    table = pa.Table.from_pylist(rows, schema=TABLES["documents"].schema)
    staged = lake.stage("documents", task.name, day, [table], name="drop")
    manifest = Manifest(step="ingest", task=task.name, partition=day, run="drop")
    lake.replace_partition("documents", task.name, day, staged, commit_key=key, manifest=manifest)


def labels(lake: Lake, task: LabellingTask, day: Partition = DAY) -> dict[str, tuple[str, int]]:
    rows = lake.scan("labels", task.name, day).collect()
    assert rows["id"].is_unique().all()
    return {row["id"]: (row["label"], row["model_version"]) for row in rows.iter_rows(named=True)}
