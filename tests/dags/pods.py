"""A step as a pod of the fake cluster, try by try."""

import datetime
from types import SimpleNamespace
from typing import Any

from llambert_etl.orchestration.kubernetes import PodStep
from tests.dags.deployed import build
from tests.dags.stores import Store

DAY = "2026-11-10"
MANIFEST = {"step": "train", "facts": {"model_version": 3}}
METRICS = ("f1", "precision", "recall", "support", "share", "predicted_share", "brier", "ece")
# What a manifest has of twelve labels is more than a termination message can be.
SCORES = {f"gold.{name}.label number {number}": 0.123456789 for name in METRICS for number in range(12)}
TOKEN = "canary-in-the-kubeconfig"  # noqa: S105


class Task:
    """One task instance: what lasts between its tries."""

    def __init__(self) -> None:
        self.store, self.pushed = Store(), dict[str, Any]()
        self.max_tries, self.tries = 2, 0
        self.started = datetime.datetime.now(datetime.UTC)

    def step(self, *, deferrable: bool = False) -> PodStep:
        step = build("retrain").get_task("train")
        assert isinstance(step, PodStep)
        step.arguments = ["train", "--partition", DAY]
        step.deferrable, step.hold_seconds = deferrable, 0
        step.startup_check_interval_seconds = 0
        step.schedule_timeout_seconds = step.startup_timeout_seconds = 1
        return step

    def context(self, step: PodStep) -> Any:
        instance = SimpleNamespace(
            dag_id="films__retrain",
            task_id="train",
            map_index=-1,
            try_number=self.tries,
            max_tries=self.max_tries,
            start_date=self.started,
            xcom_push=lambda key, value: self.pushed.update({key: value}),
        )
        return {"ti": instance, "run_id": "r", "dag": step.dag, "task_state_store": self.store}

    def attempt(self, step: PodStep | None = None) -> None:
        """Run the next try to its end."""
        self.tries += 1
        step = step or self.step()
        step.execute(self.context(step))


class Killed(BaseException):
    """As SIGKILL ends a process: nothing of it runs any more."""
