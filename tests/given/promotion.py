"""A task with gold, its registry and its lake: what a promotion decides on."""

import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
from mlflow import MlflowClient

from llambert_etl.champion.moves import highest_version
from llambert_etl.config import LabellingTask
from llambert_etl.corpus.documents import hash_text
from llambert_etl.corpus.gold import gold_as_of, gold_hash
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.registry import Registry
from llambert_etl.run import Run
from llambert_etl.schemas import TABLES
from llambert_etl.settings import Settings
from llambert_etl.steps.promote import promote
from tests.given.tasks import make_task
from tests.models.encoders import LABELS

EARLIER, DAY, NEXT, LATER = (Partition(f"2026-11-{day:02}") for day in (9, 10, 11, 12))
RIGHT = {"good": "positive", "fine": "positive", "bad": "negative", "poor": "negative"}


class House:
    """A task with gold, its registry and its lake."""

    def __init__(self, settings: Settings, encoders: dict[str, Path], root: Path) -> None:
        self.task = make_task(name=f"reviews_{uuid.uuid4().hex[:8]}")
        self.encoders = encoders
        self.registry = Registry.from_settings(settings)
        self.lake = Lake(str(root / "lake"))
        self.lake.create_tables()
        self.client = MlflowClient(settings.mlflow_uri, settings.mlflow_uri)

    def gold(self, day: Partition = EARLIER) -> None:
        rows = [
            {
                "task": self.task.name,
                "partition": day,
                "id": f"{day}-{number}-{word}",
                "text": f"the film {word}",
                "text_hash": hash_text(f"the film {word}"),
                "label": label,
                "split": "test",
                "annotator": "ada",
                "run": "gold",
            }
            for number in range(5)
            for word, label in RIGHT.items()
        ]
        manifest = Manifest(step="gold import", task=self.task.name, partition=day, run="gold")
        table = pa.Table.from_pylist(rows, schema=TABLES["gold"].schema)
        self.lake.append_once("gold", self.task.name, day, table, manifest=manifest)

    def train(
        self,
        kind: str,
        day: Partition = DAY,
        labels: tuple[str, ...] = LABELS,
        measured: dict[str, float] | None = None,
    ) -> int:
        """Register an encoder; `measured` is what its training found on the gold of this moment."""
        test = gold_as_of(self.task, self.lake, day) if measured else None
        return self.registry.register(
            self.task.name,
            day,
            run_key=uuid.uuid4().hex,
            folder=self.encoders[kind],
            labels=labels,
            params={},
            metrics=measured or {"gold.macro_f1": 0.5, "gold.accuracy": 0.5},
            gold_hash="" if test is None else gold_hash(test),
            config_hash=self.task.config_hash,
            used=highest_version(self.lake, self.task.name),
        ).version

    def promote(
        self, day: Partition = DAY, run: str = "r1", task: LabellingTask | None = None, **options: Any
    ) -> dict[str, Any]:
        manifest = promote(Run(task or self.task, day, run), lake=self.lake, registry=self.registry, **options)
        return manifest.facts

    @property
    def champion(self) -> int | None:
        found = self.registry.champion(self.task.name)
        return None if found is None else found.version

    def moves(self) -> list[tuple[int | None, int, str]]:
        rows = self.lake.scan("promotions", self.task.name).sort("number").collect()
        return rows.select("from_version", "to_version", "moved_by").rows()

    def strict(self, **gates: Any) -> LabellingTask:
        return make_task(name=self.task.name, gates=gates)

    def tags(self, version: int) -> dict[str, str]:
        return self.client.get_model_version(f"llambert.{self.task.name}", str(version)).tags
