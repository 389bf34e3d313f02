"""What must hold when a scenario has ended, whatever happened in it."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from laptop.airflow_client import Run
from llambert_etl.lake import Lake
from llambert_etl.partition import Partition
from tests.verify_airflow.production import Production
from tests.verify_faults.invariants import violations

# 40 documents a day, and 25 rows at most in a shard.
DOCUMENTS, SHARDS = 40, 2
_LABEL_TASKS = Counter({"plan": 1, "shards": 1, "label_shard": SHARDS, "check_labels": 1, "publish": 1})


class Judge:
    """Collects every sentence that should hold and did not."""

    def __init__(self, production: Production) -> None:
        self._production = production
        self._password = production.postgres.password
        self._lake = Lake.from_settings(production.world.settings)
        self.problems: list[str] = []

    def must(self, holds: bool, day: Partition, what: str) -> None:
        if not holds:
            self._production.say(f"  PROBLEM {day}: {what}")
            self.problems.append(f"{day}: {what}")

    def day(self, day: Partition, runs: list[Run]) -> dict[str, Any]:
        """Look at the runs of a day and at its tables; return what is worth telling of them."""
        task, settings = self._production.world.task, self._production.world.settings
        labels = [run for run in runs if run.dag.endswith("__label")]
        for run in runs:
            self.must(run.state == "success", day, f"{run.dag} ended as {run.state}")
            for problem in self._steps(run, alone=len(labels) == 1):
                self.must(False, day, problem)
        self.must(not self._production.steps(), day, "a step still runs")
        self.must(not self._production.shows(self._password), day, "an argument holds the database's password")
        manifests = [commit.manifest for commit in self._lake.commits("labels", task.name) if commit.manifest]
        rows = [manifest.rows for manifest in manifests if manifest.partition == day]
        whole = {"read": DOCUMENTS, "inferred": DOCUMENTS, "reused": 0}
        self.must(rows == [whole], day, f"labels were published as {rows}")
        for problem in violations(task, settings, settled=True):
            self.must(False, day, problem)
        again = {name: states for run in runs for name, states in self._tried_again(run)}
        self.must(all(len(states) == 2 for states in again.values()), day, f"one fault has cost several tries: {again}")
        return {"tried_again": again, "files": self._files(day)}

    def _steps(self, run: Run, alone: bool) -> Iterator[str]:
        """Each task has succeeded once. Of two label runs of a day, the second may have found nothing to do."""
        states = {(task.task, task.map_index): task.state for task in self._production.tasks(run)}
        if wrong := {place: state for place, state in states.items() if state not in ("success", "skipped")}:
            yield f"{run.dag}: tasks ended as {wrong}"
        succeeded = Counter(
            (each.task, each.map_index) for each in self._production.attempts(run) if each.state == "success"
        )
        if twice := [place for place, count in succeeded.items() if count > 1]:
            yield f"{run.dag}: {twice} succeeded more than once"
        found = Counter(name for name, _ in succeeded)
        if run.dag.endswith("__label") and alone and found != _LABEL_TASKS:
            yield f"{run.dag}: what succeeded is {dict(found)}"

    def _tried_again(self, run: Run) -> Iterator[tuple[str, list[str]]]:
        """Yield the tasks that had more than one try, and how each of these has ended."""
        tries: dict[str, list[str]] = {}
        for each in self._production.attempts(run):
            name = each.task if each.map_index < 0 else f"{each.task} {each.map_index}"
            tries.setdefault(name, []).append(str(each.state))
        return ((name, states) for name, states in tries.items() if len(states) > 1)

    def _files(self, day: Partition) -> int:
        """Return how many files of labels were written: each shard labelled again would be one more."""
        world = self._production.world
        prefix = f"lake/labels/task={world.task.name}/partition={day}/"
        pages = world.ground.s3.client().get_paginator("list_objects_v2").paginate(Bucket=world.bucket, Prefix=prefix)
        return sum(page["KeyCount"] for page in pages)
