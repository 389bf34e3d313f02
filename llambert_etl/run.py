"""The Run: what each step of a labelling task is given first, and what its manifest says of it."""

import datetime
from dataclasses import dataclass, field

from llambert_etl.config import LabellingTask
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition


@dataclass(frozen=True)
class Run:
    """One run of a task as of a day, by its name. Its clock starts where it is made."""

    task: LabellingTask
    partition: Partition
    name: str
    started: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC), init=False)

    def manifest(self, step: str, **told: object) -> Manifest:
        """Account for what a step of this run has done so far."""
        named = {"task": self.task.name, "partition": self.partition, "run": self.name}
        known = {"config_hash": self.task.config_hash, "seconds": self._seconds()}
        return Manifest.model_validate({"step": step, **named, **known, **told})

    def finished(self, manifest: Manifest, **changes: object) -> Manifest:
        """Return a copy with `changes` and the seconds until now."""
        return Manifest.model_validate({**manifest.model_dump(), **changes, "seconds": self._seconds()})

    def _seconds(self) -> float:
        return round((datetime.datetime.now(datetime.UTC) - self.started).total_seconds(), 3)
