"""A labelling task that has been annotated and judged, small enough to train an encoder for in a moment."""

import uuid
from typing import Any

from llambert_etl.config import LabellingTask
from llambert_etl.lake import Lake
from llambert_etl.partition import Partition
from llambert_etl.registry import Registry
from llambert_etl.settings import Settings
from llambert_etl.steps.train import train
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
        done = train(
            self.task,
            DAY,
            run=options.pop("run", "night"),
            lake=self.lake,
            registry=self.registry,
            settings=self.settings,
            prompt_hash="p",
            strategy=strategy,  # type: ignore[arg-type]
            **options,
        )
        return dict(done.facts)
