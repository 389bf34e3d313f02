"""The whole loop as pods of the worker image, driven by REST; then the same nights as processes, row for row."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl

from laptop.airflow_client import AirflowClient, Run
from laptop.demo.data import read_corpus, write_gold
from laptop.environment import model_paths, variables
from laptop.stack import REPOSITORY
from llambert_etl.lake import Lake
from llambert_etl.partition import Partition
from llambert_etl.registry import Registry
from llambert_etl.schemas import TABLES, TableName
from llambert_etl.settings import Settings
from tests.verify_kubernetes.cluster import until
from tests.verify_kubernetes.deployment import (
    DAGS,
    MEASURED,
    SHARD_ROWS,
    SHARDS,
    SLOTS,
    TASK,
    Deployment,
    llambert,
)

FIRST, SECOND, THIRD, FOURTH = DAYS = tuple(Partition(f"2026-11-{day}") for day in (10, 11, 12, 13))
RESTORED = Partition("2026-11-14")
SHARD = "label_shard"
# All days after the first together are fewer than it, or training would be due again.
_ROWS = {FIRST: SHARDS * SHARD_ROWS, SECOND: 80, THIRD: 80, FOURTH: 80, RESTORED: 80}
_NIGHT_SECONDS = 2_700.0  # of two processors, on which the same nights run as processes too
# What follows from who did it and when, and not from what was done.
APART: dict[TableName, set[str]] = {
    "documents": {"run"},
    "annotations": {"run"},
    "gold": {"run"},
    "labels": {"run"},
    "promotions": {"run", "moved_at"},
    "reviews": {"run", "labelled_at"},
}

Say = Callable[[str], None]


class Loop:
    """Two nights with a training in the first, and a backfill of two more; `problems` has what did not hold."""

    def __init__(self, deployment: Deployment, client: AirflowClient, say: Say) -> None:
        self._deployment, self._client, self._say = deployment, client, say
        self._lake = Lake.from_settings(deployment.settings)
        self._registry = Registry.from_settings(deployment.settings)
        self.problems: list[str] = []

    def prepare(self) -> None:
        """Put every night's file and gold where they belong, and unpause the Dags."""
        reviews = read_corpus(REPOSITORY / ".models")
        write_gold(reviews, self._deployment.root / "include" / str(self._deployment.task.gold))
        client, start = self._deployment.s3.client(), 0
        for day, rows in _ROWS.items():
            lines = [json.dumps({"id": review.id, "text": review.text}) for review in reviews[start : start + rows]]
            client.put_object(Bucket="landing", Key=f"{TASK}/{day}/reviews.jsonl", Body="\n".join(lines).encode())
            start += rows
        wanted = {*(f"{TASK}__{kind}" for kind in DAGS), *MEASURED}
        self._client.wait_for("the Dags", lambda: wanted <= self._client.dags(), deadline=240)
        for dag in ("label", "retrain", "ingest"):  # consumers first: a paused one loses events
            self._client.unpause(f"{TASK}__{dag}")
        for dag in MEASURED:
            self._client.unpause(dag)

    def run(self) -> dict[str, Any]:
        """Run the nights and judge what they have left; return what is worth telling."""
        seconds = {}
        for name, begin, days in (
            ("first night, with a training", lambda: self._ingest(FIRST), [FIRST]),
            ("second night", lambda: self._ingest(SECOND), [SECOND]),
            ("backfill of two nights", self._backfill, [THIRD, FOURTH]),
        ):
            self._say(f"{name} ...")
            started = time.monotonic()
            begin()
            with self._one_shard_lost(days[0]):
                self._until(name, lambda days=days: all(map(self._published, days)))  # type: ignore[misc]
            seconds[name] = round(time.monotonic() - started)
        return {"seconds": seconds, **self._judged()}

    def _ingest(self, day: Partition) -> None:
        self._client.trigger(f"{TASK}__ingest", day)

    def _backfill(self) -> None:
        self._client.backfill(f"{TASK}__ingest", THIRD, FOURTH)

    def _until(self, what: str, reached: Callable[[], bool]) -> None:
        def settled() -> bool:
            failed = [run for run in self._runs() if run.state == "failed"]
            assert not failed, f"{what}: " + "\n".join(map(self._why, failed))
            idle = all(run.state == "success" for run in self._runs())
            return idle and reached()

        self._client.wait_for(what, settled, deadline=_NIGHT_SECONDS)

    def _runs(self) -> list[Run]:
        return [run for kind in DAGS for run in self._client.runs(f"{TASK}__{kind}")]

    def _why(self, run: Run) -> str:
        """Return the end of the log of each task that has failed."""
        run_id, failed = quote(run.run_id, safe=""), []
        for task in self._client.task_instances(run.dag, run_id):
            if task.state == "failed":
                log = self._client.log(run.dag, run_id, task.task, number=task.tries, map_index=task.map_index)
                failed.append(f"{run.dag} of {run.partition}, {task.task}, try {task.tries}:\n{log[-3000:]}")
        return "\n".join(failed)

    def _published(self, day: Partition) -> bool:
        """Tell whether the champion of this moment has published the day's labels."""
        champion, last = self._registry.champion(TASK), self._lake.last_commit("labels", TASK, day)
        found = last and last.manifest
        return bool(champion and found and found.facts["model_version"] == champion.version)

    # Meanwhile

    def _one_shard_lost(self, day: Partition) -> "_Lost":
        return _Lost(self._deployment) if day == FIRST else _Lost(None)

    # After

    def _judged(self) -> dict[str, Any]:
        runs = [run for run in self._runs() if run.partition in DAYS]
        tries: dict[str, list[int]] = {}
        for run in runs:
            for task in self._client.task_instances(run.dag, quote(run.run_id, safe="")):
                if task.task == SHARD and task.map_index >= 0:
                    tries.setdefault(f"{run.partition} {run.run_id}", []).append(task.tries)
        shards = {name: len(each) for name, each in tries.items()}
        first = [count for name, count in shards.items() if name.startswith(FIRST)]
        self.must(first == [SHARDS], f"label runs of the first night had so many shards, and not {SHARDS}: {first}")
        again = [count for each in tries.values() for count in each if count > 1]
        self.must(again == [2], f"one shard was lost, and so many tries had more than one: {again}")
        commits = {day: self._commits(day) for day in DAYS}
        self.must(set(commits.values()) == {1}, f"labels were published so often: {commits}")
        most = dict(self._deployment.most)
        self.must(1 < most.get(SHARD, 0) <= SLOTS, f"{most.get(SHARD)} shards at once on {SLOTS} slots")
        until("the end of all pods", lambda: not self._deployment.pods())
        steps = {pod.step for pod in self._deployment.seen.values()}
        self.must(steps == {"annotate", "train", SHARD}, f"steps that were pods: {steps}")
        moves = self._lake.scan("promotions", TASK).collect().height
        self.must(moves == 1, f"the champion was moved {moves} times")
        return {
            "rows_a_night": {day: _ROWS[day] for day in DAYS},
            "label_runs": list(shards.values()),
            "slots": SLOTS,
            "pods_at_once": most,
            "pods": len(self._deployment.seen),
            "tries_of_the_lost_shard": again,
            "publishes_a_night": list(commits.values()),
        }

    def _commits(self, day: Partition) -> int:
        """Return how often labels of a day were published."""
        told = [commit.manifest for commit in self._lake.commits("labels", TASK)]
        return sum(manifest is not None and manifest.partition == day for manifest in told)

    def night_after_restore(self, client: AirflowClient) -> None:
        """Run one more night, in an Airflow that was restored."""
        self._client = client
        self._ingest(RESTORED)
        self._until("the night after the restore", lambda: self._published(RESTORED))

    def compare(self, hand: "ByHand") -> dict[str, Any]:
        """Compare all tables with those of the same nights as local processes."""
        counts: dict[str, int] = {}
        for table in TABLES:
            kept = sorted(set(TABLES[table].schema.names) - APART[table])
            ours, theirs = (_rows(lake, table, kept) for lake in (self._lake, hand.lake))
            counts[table] = ours.height
            if not ours.equals(theirs):
                differ = (
                    [name for name in kept if not ours[name].equals(theirs[name])]
                    if ours.height == theirs.height
                    else []
                )
                self.must(False, f"{table}: {ours.height} rows and {theirs.height} by hand; differing in {differ}")
        weights = [registry.champion(TASK) for registry in (self._registry, hand.registry)]
        hashes = {version.hashes["model.safetensors"] for version in weights if version}
        self.must(len(hashes) == 1, "the champion's weights are not those of the training by hand")
        apart = {table: sorted(columns) for table, columns in APART.items()}
        return {"rows": counts, "columns_left_out": apart, "same_weights": len(hashes) == 1}

    def secrets_in(self, folder: Path) -> None:
        """Hunt what only pods have for a key in everything that Airflow has written."""
        hidden = [self._deployment.s3.keys[step][1].encode() for step in ("annotate", "train", "label", "study")]
        for file in (path for path in folder.rglob("*") if path.is_file()):
            content = file.read_bytes()
            self.must(not any(secret in content for secret in hidden), f"a pod's secret is in {file}")

    def must(self, holds: bool, what: str) -> None:
        if not holds:
            self._say(f"PROBLEM {what}")
            self.problems.append(f"loop: {what}")


class _Lost:
    """Deletes the pod of the first shard that comes to work, as a node that fails would."""

    def __init__(self, deployment: Deployment | None) -> None:
        self._deployment, self._over = deployment, threading.Event()
        self._thread = threading.Thread(target=self._lose, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _lose(self) -> None:
        while self._deployment and not self._over.wait(0.2):
            pods = list(self._deployment.seen.values())
            if pod := next((pod for pod in pods if pod.step == SHARD and "started" in pod.moments), None):
                self._deployment.delete(pod.name)
                return


class ByHand:
    """The same nights as processes of this machine, on a folder in place of the lake and a file in place of MLflow."""

    def __init__(self, deployment: Deployment) -> None:
        folder = deployment.folder / "by-hand"
        folder.mkdir()
        changes = {
            "lake": str(folder / "lake"),
            "mlflow_uri": f"sqlite:///{folder / 'mlflow.db'}",
            "mlflow_username": None,
            "mlflow_password": None,
            "state": folder / "state",
            "model_paths": model_paths(REPOSITORY),
        }
        self.settings = deployment.settings.model_copy(update=changes)
        given = {name: getattr(self.settings, name) for name in {*deployment.settings.model_fields_set, *changes}}
        own = variables(Settings(**{name: value for name, value in given.items() if value is not None}))
        # A training's weights depend on it: each thread sums up a part of a gradient.
        self.environment = {**own, "OMP_NUM_THREADS": deployment.threads}
        self.manifest: dict[str, Any] = {}
        self._over = threading.Event()
        self.gold = deployment.root / "include" / str(deployment.task.gold)

    @property
    def lake(self) -> Lake:
        return Lake.from_settings(self.settings)

    @property
    def registry(self) -> Registry:
        return Registry.from_settings(self.settings)

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Run all nights meanwhile, and wait for them; where that is in vain, for no more than a command's end."""
        with ThreadPoolExecutor(1) as pool:
            nights = pool.submit(lambda: [self.night(day) for day in DAYS])
            try:
                yield
            except BaseException:
                self._over.set()
                raise
            nights.result()

    def night(self, day: Partition) -> None:
        self("run", "ingest", day=day)
        if day == FIRST:
            self("run", "retrain", "--gold", str(self.gold), day=day)
        self("run", "label", day=day)

    def __call__(self, *words: str, day: Partition, run: str = "by-hand") -> float:
        """Run a command on a day; return how many seconds it took, and keep its manifest."""
        assert not self._over.is_set(), "nobody will look at it"
        started = time.monotonic()
        said = llambert(*words, "--task", TASK, "--partition", day, "--run", run, environment=self.environment)
        self.manifest = json.loads(said.splitlines()[-1])
        return time.monotonic() - started


def _rows(lake: Lake, table: TableName, columns: list[str]) -> pl.DataFrame:
    found = lake.scan(table, TASK).select(columns).collect()
    return found.sort([name for name in columns if not isinstance(found.schema[name], pl.List)], nulls_last=True)
