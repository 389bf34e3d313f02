"""A task that is ready to be trained: documents, the LLM's labels and gold in a lake, and a registry."""

import uuid
from typing import Any

from llambert_etl.config import LabellingTask
from llambert_etl.encoder.inference import Encoder
from llambert_etl.labelling.model_files import fetch
from llambert_etl.labelling.plan import Plan
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.registry import Registry
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.steps.label import label
from llambert_etl.steps.plan import plan
from llambert_etl.steps.train import train
from tests.given.labelling import finish, quiet
from tests.unit.quality import frames

DAY = Partition(frames.DAY)
ANNOTATED = 60


class School:
    """A task whose 60 documents an LLM has labelled. People judged 12 of them to train on, and 12 to test on."""

    def __init__(self, settings: Settings, task: LabellingTask) -> None:
        name = f"{task.name}_{uuid.uuid4().hex[:8]}"
        self.task = task.model_copy(update={"name": name})
        self.settings, self.registry = settings, Registry.from_settings(settings)
        self.lake = Lake(str(settings.state / "lake"))
        self.lake.create_tables()
        frames.put(self.lake, "documents", frames.documents(self.task, ANNOTATED), self.task)
        frames.put(self.lake, "annotations", frames.annotations(self.task, ANNOTATED), self.task)
        for split, numbers in (("train", range(12)), ("test", range(12, 24))):
            frames.put(self.lake, "gold", frames.gold(self.task, numbers, split), self.task)

    def train(self, strategy: str, **options: Any) -> dict[str, Any]:
        return dict(self.account(strategy, **options).facts)

    def account(self, strategy: str, **options: Any) -> Manifest:
        """Train; return what the step says of it."""
        return train(
            Run(self.task, DAY, options.pop("run", "night")),
            lake=self.lake,
            registry=self.registry,
            settings=self.settings,
            prompt_hash=options.pop("prompt_hash", "p"),
            strategy=strategy,  # type: ignore[arg-type]
            **options,
        )

    def label(self, version: int) -> dict[str, int]:
        """Label the day with a version of the registry; return how many rows have which label."""
        run = Run(self.task, DAY, "night")
        plan(run, lake=self.lake, registry=self.registry, settings=self.settings, model_version=version)

        def load(made: Plan) -> Encoder:
            return Encoder.load(fetch(self.lake, made.model, self.settings.model_cache))

        here = self.settings.model_copy(update={"lake": self.lake.uri})
        label(run, shard=0, lake=self.lake, settings=here, load=load, progress=quiet)
        finish(self.lake, self.task, DAY, "night")
        return dict(self.lake.scan("labels", self.task.name, DAY).collect()["label"].value_counts().iter_rows())
