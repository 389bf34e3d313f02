"""Three nights: a drop arrives, Airflow is told the day, and everything else follows by itself."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from laptop.airflow_client import AirflowClient
from laptop.demo.data import DAYS, Review, daily_drops, write_drop
from laptop.demo.follow import ACTIVE, KINDS, Follower, StepFailedError
from llambert_etl.config import LabellingTask
from llambert_etl.facts import Planned
from llambert_etl.partition import Partition, parse_partition
from llambert_etl.registry import Registry
from llambert_etl.settings import Settings

_DAGS_SECONDS = 180.0
_NIGHT_SECONDS = 1_800.0


class Nights(NamedTuple):
    """Drives Airflow. `say` prints a line, `landed` and `parts` fill as the nights go by."""

    task: LabellingTask
    settings: Settings
    registry: Registry
    airflow: AirflowClient
    follower: Follower
    say: Callable[[str], None]
    landed: dict[str, int]
    parts: dict[str, float]

    def run(self, reviews: Sequence[Review]) -> None:
        """Run every night. Raise StepFailedError or TimeoutError where one does not reach its end."""
        drops = daily_drops(reviews)
        with self._timed("Dags parsed and unpaused"):
            self._unpause()
        first, second, third = DAYS
        with self._timed(f"night 1: {first}, with training"):
            self._arrives(first, drops[first])
            self.follower.wait(lambda: self._trained_upto() is not None, f"{first}: a retrain", _NIGHT_SECONDS)
            self._train_on_gold_alone()
            self.follower.wait(lambda: self._served(first), f"{first}: labels", _NIGHT_SECONDS)
        with self._timed(f"night 2: {second}, beside gold alone"):
            self._arrives(second, drops[second])
            self._wait_until_served([first, second])
        with self._timed(f"night 3: {third}"):
            self._arrives(third, drops[third])
            self._wait_until_served([third])

    def _unpause(self) -> None:
        self.airflow.wait_for("the Dags", self._parsed, deadline=_DAGS_SECONDS)
        # Consumers first: a paused one loses events.
        for kind in ("label", "retrain", "ingest"):
            self.airflow.unpause(self.follower.dag(kind))

    def _parsed(self) -> bool:
        errors = self.airflow.import_errors()
        if errors:
            raise StepFailedError("\n".join(f"{file}: {trace}" for file, trace in errors.items()))
        return {self.follower.dag(kind) for kind in KINDS} <= self.airflow.dags()

    def _arrives(self, day: Partition, reviews: Sequence[Review]) -> None:
        self.landed[day] = write_drop(self.task, day, reviews, self.settings)
        self.say(f"{day}  drop arrives: {self.landed[day]:,} lines")
        self.airflow.backfill(self.follower.dag("ingest"), day, day, reprocess="failed")

    def _train_on_gold_alone(self) -> None:
        """Start the retrain that the task's own is compared with; if it were better, it would be promoted."""
        self.airflow.trigger(self.follower.dag("retrain"), self._trained_upto(), {"strategy": "gold"})

    def _wait_until_served(self, days: Sequence[Partition]) -> None:
        self.follower.wait(
            lambda: self._idle() and all(self._served(day) for day in days),
            f"labels of {', '.join(days)} by the champion",
            _NIGHT_SECONDS,
        )

    def _trained_upto(self) -> Partition | None:
        """Return the day of the first retrain: that of the first night, or yesterday, which Airflow runs when unpaused.

        Whichever of the two comes first makes the other needless.
        """
        days = (record.partition for record in self.follower.steps if record.step == "promote" and record.manifest)
        return next((parse_partition(day) for day in days), None)

    def _served(self, day: Partition) -> bool:
        """Tell whether the champion of this moment has published the day's labels."""
        champion = self.registry.champion(self.task.name)
        if champion is None:
            raise StepFailedError(f"{day}: the retrain ended without a champion; see its `promote` above")
        published = {run for run, _ in self.follower.manifests("label", "publish", day)}
        return any(
            Planned.of(manifest).model_version == champion.version and run in published
            for run, manifest in self.follower.manifests("label", "plan", day)
        )

    def _idle(self) -> bool:
        return not any(run.state in ACTIVE for run in self.follower.runs)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.parts[part] = round(time.monotonic() - started, 1)
