"""Two label runs of one day at one moment, as two assets with one key give them: each text is labelled by one."""

import json
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from laptop.environment import variables
from llambert_etl.labelling.plan import find_shard, read_plan
from llambert_etl.lake import Lake
from llambert_etl.orchestration import commands
from llambert_etl.registry import Registry
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.steps.plan import plan
from tests.given.labelling import DAY, Parity, Probabilities, Shelf, drop, finish, labels, run_shard, run_shards
from tests.given.tasks import make_task
from tests.models.encoders import LABELS
from tests.processes.forks import Fork, barrier, llambert

TASK = make_task()
TEXTS = [f"text {number}" for number in range(12)]
# What Airflow calls the runs of two assets' events.
RUNS = ("asset_triggered__2026-11-11T00:04:05.1+00:00__a", "asset_triggered__2026-11-11T00:04:05.2+00:00__b")
SHARDS = 3
DEADLINE = 60.0
PATIENCE = 0.6


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    """A lake in a folder, in which two runs have planned the same twelve texts in three shards."""
    settings = Settings(lake=str(tmp_path / "lake"), shard_rows=4, max_shards=SHARDS, shard_overhead_seconds=0)
    lake = Lake.from_settings(settings)
    lake.create_tables()
    drop(lake, TASK, TEXTS)
    for run in RUNS:
        plan(Run(TASK, DAY, run), lake=lake, registry=Shelf(TASK, 1), settings=settings)  # type: ignore[arg-type]
    return settings


def staged(lake: Lake) -> list[str]:
    return [info.base_name for info in lake.storage.list(f"labels/task={TASK.name}/partition={DAY}")]


def turn_of(lake: Lake, shard: int) -> str | None:
    return lake.read_note(f"{read_plan(lake, TASK.name, DAY, RUNS[0]).folder}/shard-{shard}.turn")


def wait_until(reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not reached():
        assert time.monotonic() < deadline, "what was waited for has not come"
        time.sleep(0.01)


class Held(Parity):
    """A classifier that is at its first texts until it is let go."""

    def __init__(self) -> None:
        super().__init__(2)
        self.begun, self.go = threading.Event(), threading.Event()

    def predict(self, texts: list[str]) -> Probabilities:
        self.begun.set()
        assert self.go.wait(DEADLINE)
        return super().predict(texts)


def in_thread(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def test_a_finished_shard_is_left_alone_by_every_run_of_the_same_labels(here: Settings) -> None:
    lake, first, second = Lake.from_settings(here), Parity(2), Parity(2)
    run_shard(lake, TASK, here, DAY, RUNS[0], 0, first)
    run_shards(lake, TASK, here, DAY, RUNS[1], second)
    assert sorted(first.asked + second.asked) == sorted(TEXTS)
    finish(lake, TASK, DAY, RUNS[1])
    assert len(labels(lake, TASK)) == len(TEXTS)
    before = lake.version("labels")
    assert finish(lake, TASK, DAY, RUNS[0]).rows["read"] == len(TEXTS)
    assert lake.version("labels") == before


def test_a_second_run_waits_as_long_as_the_first_is_heard_of(here: Settings) -> None:
    lake, first, second = Lake.from_settings(here), Held(), Parity(2)
    made: list[Any] = []

    def run(name: str, classifier: Parity) -> threading.Thread:
        call = lambda: made.append(run_shard(lake, TASK, here, DAY, name, 0, classifier, patience=PATIENCE))  # noqa: E731
        return in_thread(call)

    holder = run(RUNS[0], first)
    assert first.begun.wait(DEADLINE)
    waiter = run(RUNS[1], second)
    # Long enough for the second to lose its patience thrice, if nothing were heard.
    wait_until(lambda: json.loads(turn_of(lake, 0) or "{}").get("beat", 0) > 18 or second.asked)
    assert second.asked == []
    first.go.set()
    for thread in (holder, waiter):
        thread.join(DEADLINE)
    assert second.asked == []
    assert [manifest.run for manifest in made] == [RUNS[0], RUNS[0]]
    assert len(staged(lake)) == 1


@pytest.mark.parametrize("left", ["dead", "failed", "own"])
def test_a_shard_that_a_run_has_left_is_done_by_the_next(here: Settings, tmp_path: Path, left: str) -> None:
    """Killed, it is given up after the patience; failed, or by the run itself, at once."""
    lake, classifier = Lake.from_settings(here), Parity(2)
    if left == "failed":
        with pytest.raises(ZeroDivisionError):
            run_shard(lake, TASK, here, DAY, RUNS[0], 0, lambda _: 1 // 0)  # type: ignore[arg-type, return-value]
    else:
        with Fork(holding, here.lake, log=tmp_path / "holder.log"):
            wait_until(lambda: turn_of(lake, 0) is not None)
    patience = {"patience": PATIENCE} if left == "dead" else {}
    started = time.monotonic()
    manifest = run_shard(lake, TASK, here, DAY, RUNS[0] if left == "own" else RUNS[1], 0, classifier, **patience)
    assert manifest.rows["inferred"] == len(classifier.asked) > 0
    assert left == "dead" or time.monotonic() - started < 60, "nobody is waited for"


def holding(lake: str) -> None:
    """Begin a shard, and stay in it."""
    here = Settings(lake=lake)
    run_shard(Lake.from_settings(here), TASK, here, DAY, RUNS[0], 0, Held(), patience=PATIENCE)


def test_a_run_that_was_held_up_leaves_what_another_has_staged_meanwhile(here: Settings) -> None:
    lake, first = Lake.from_settings(here), Held()
    holder = in_thread(lambda: run_shard(lake, TASK, here, DAY, RUNS[0], 0, first))
    assert first.begun.wait(DEADLINE)
    lake.write_note(  # its own beats are ten seconds away
        f"{read_plan(lake, TASK.name, DAY, RUNS[0]).folder}/shard-0.turn", json.dumps({"run": "?", "holder": "?"})
    )
    run_shard(lake, TASK, here, DAY, RUNS[1], 0, Parity(2), patience=PATIENCE)
    note = find_shard(lake, read_plan(lake, TASK.name, DAY, RUNS[0]), 0)
    first.go.set()
    holder.join(DEADLINE)
    assert find_shard(lake, read_plan(lake, TASK.name, DAY, RUNS[0]), 0) == note


def test_a_shard_whose_files_are_gone_is_made_again(here: Settings) -> None:
    lake, again = Lake.from_settings(here), Parity(2)
    run_shard(lake, TASK, here, DAY, RUNS[0], 0, Parity(2))
    for info in lake.storage.list(f"labels/task={TASK.name}/partition={DAY}"):
        lake.storage.delete(info)
    run_shards(lake, TASK, here, DAY, RUNS[1], again)
    assert sorted(again.asked) == sorted(TEXTS)
    finish(lake, TASK, DAY, RUNS[1])
    assert len(labels(lake, TASK)) == len(TEXTS)


def labelling(lake: str, run: str, together: Any) -> None:
    here, classifier = Settings(lake=lake), Parity(2)
    together.wait()
    run_shards(Lake.from_settings(here), TASK, here, DAY, run, classifier)
    print(json.dumps(classifier.asked))


def test_two_processes_at_once_label_no_text_twice(here: Settings, tmp_path: Path) -> None:
    together = barrier(2)
    forks = [Fork(labelling, here.lake, run, together, log=tmp_path / f"{run[-1]}.log") for run in RUNS]
    assert [fork.wait() for fork in forks] == [0, 0], [fork.last_words for fork in forks]
    asked = [text for fork in forks for text in fork.manifest]
    assert sorted(asked) == sorted(TEXTS)
    found = [name.rsplit("-", 1)[0] for name in staged(Lake.from_settings(here))]
    assert sorted(found) == sorted(set(found)), "one file a shard"


def test_two_runs_of_the_dags_commands_at_once_make_one_commit(
    registry_settings: Settings, encoders: dict[str, Path], tmp_path: Path
) -> None:
    settings = registry_settings.model_copy(update={"shard_rows": 4, "max_shards": SHARDS, "shard_overhead_seconds": 0})
    lake, registry = Lake.from_settings(settings), Registry.from_settings(settings)
    lake.create_tables()
    task = make_task(name=f"reviews_{uuid.uuid4().hex[:8]}")
    (settings.include / "tasks").mkdir()
    fields = yaml.safe_dump(task.model_dump(mode="json"), sort_keys=False)
    (settings.include / "tasks" / f"{task.name}.yaml").write_text(fields)
    (settings.include / "prompts").mkdir()
    (settings.include / "prompts" / task.prompt.template).write_text("{{ text }}")
    drop(lake, task, [f"the film {word} {number}" for number in range(6) for word in ("good", "bad")])
    registry.register(
        task.name, DAY, run_key="k", folder=encoders["right"], labels=LABELS, params={}, metrics={}, config_hash="h"
    )
    registry.set_champion(task.name, 1)
    environment = variables(settings)

    def at_once(argvs: list[list[str]]) -> list[dict[str, Any]]:
        forks: list[Fork] = []
        for number, argv in enumerate(argvs):
            log = tmp_path / f"{argv[0]}-{number}.log"
            forks.append(llambert(argv, log=log, environment=environment))
        assert [fork.wait() for fork in forks] == [0] * len(forks), [fork.last_words for fork in forks]
        return [fork.manifest for fork in forks]

    before = lake.version("labels")
    planned = at_once([commands.step("plan", task, partition=DAY, run=run) for run in RUNS])
    assert [made["facts"]["shards"] for made in planned] == [SHARDS, SHARDS]
    shards = [commands.label_shards(task, DAY, run, SHARDS) for run in RUNS]
    made = at_once([argv for pair in zip(*shards, strict=True) for argv in pair])
    for one, other in zip(made[::2], made[1::2], strict=True):
        assert one == other, "what one run says of a shard is what the other has done"
    assert sum(each["rows"]["inferred"] for each in made[::2]) == 12
    at_once([commands.step("check labels", task, partition=DAY, run=run) for run in RUNS])
    published = at_once([commands.step("publish", task, partition=DAY, run=run) for run in RUNS])
    assert [each["rows"]["read"] for each in published] == [12, 12]
    assert (lake.version("labels"), len(labels(lake, task))) == (before + 1, 12)
