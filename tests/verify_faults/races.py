"""Races, fifty times each: writers of a partition, promotions of a task; then a promotion killed at each request."""

import random
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from mlflow import MlflowClient

from llambert_etl.errors import TransientError
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.registry import Registry, model_name
from llambert_etl.run import Run
from llambert_etl.schemas import TABLES
from llambert_etl.steps.gold import import_gold
from llambert_etl.steps.promote import promote
from tests.models.encoders import LABELS, taught
from tests.processes.forks import Fork, barrier, llambert
from tests.verify_faults.world import FIRST, RIGHT, SECOND, THIRD, Ground, World

_TASK = "races"
_SET_ALIAS = r"/registered-models/alias"
_AGAIN = TransientError.exit_code


# Writers


def writers(ground: Ground, rounds: int, say: Callable[[str], None]) -> list[str]:
    """Let three processes write one partition at once: the same rows, other rows, overlapping rows."""
    world = World(ground, "race_of_writers")
    lake = Lake.from_settings(world.settings)
    lake.create_tables()
    problems = []
    for number in range(rounds):
        for verb, shares, day in (
            ("replace", ("abc",) * 3, FIRST),
            ("replace", ("abc", "def", "ghi"), SECOND),
            ("append", ("ab", "bc", "cd"), THIRD),
        ):
            before, task = lake.version("documents"), f"{_TASK}_{number}"
            codes = _at_once(world, lake, verb, task, shares, day)
            found = "".join(sorted(lake.scan("documents", task, day).collect()["id"]))
            wrong = _judged(verb, shares, codes, found, lake.version("documents") - before)
            problems += [f"round {number}, {verb} of {shares}: {wrong}"] if wrong else []
        say(f"race of writers {number + 1} of {rounds}: {len(problems)} problems")
    return problems


def _at_once(
    world: World, lake: Lake, verb: str, task: str, shares: tuple[str, ...], day: Partition
) -> list[int | None]:
    start = barrier(len(shares))
    forks = [
        Fork(write, start, lake.uri, world.settings.storage_options, verb, task, ids, day, log=_log(world, "writer"))
        for ids in shares
    ]
    return [fork.wait() for fork in forks]


def _judged(verb: str, shares: tuple[str, ...], codes: list[int | None], found: str, commits: int) -> str | None:
    """Return what is wrong with how a race ended."""
    if verb == "append":
        right = codes == [0] * len(shares) and found == "".join(sorted(set("".join(shares))))
    elif len(set(shares)) == 1:
        right = set(codes) <= {0, _AGAIN} and 0 in codes and (found, commits) == (shares[0], 1)
    else:
        winners = [ids for ids, code in zip(shares, codes, strict=True) if code == 0]
        right = set(codes) == {0, _AGAIN} and winners == [found] and commits == 1
    return None if right else f"exit codes {codes}, rows {found!r}, {commits} commits"


def write(start: Any, uri: str, options: Mapping[str, str], verb: str, task: str, ids: str, day: Partition) -> None:
    """Write some rows once all writers are there. Runs in a fork."""
    lake = Lake(uri, options)
    rows = [
        {"task": task, "partition": day, "id": each, "status": "accepted", "text": each, "text_hash": each}
        for each in ids
    ]
    table = pa.Table.from_pylist(rows, schema=TABLES["documents"].schema)
    manifest = Manifest(step="race", task=task, partition=day, run=ids)
    if verb == "append":
        start.wait()
        lake.append_once("documents", task, day, table, manifest=manifest)
        return
    staged = lake.stage("documents", task, day, [table], name="race")
    start.wait()
    lake.replace_partition("documents", task, day, staged, commit_key=ids, manifest=manifest)


# Promotions


class House:
    """Three versions of one task, each better than the one before; and for each round a lake with gold alone."""

    def __init__(self, ground: Ground) -> None:
        self.world, self.tracking = World(ground, _TASK), ground.tracking
        self.registry = Registry.from_settings(self.world.settings)
        self._client = MlflowClient(ground.mlflow.uri, ground.mlflow.uri)
        wrong = ({"fine": "negative", "poor": "positive"}, {"fine": "negative"}, {})
        self.poor, self.fair, self.best = (
            self._register(day, taught(self.world.root / f"encoder-{day}", {**RIGHT, **mistakes}))
            for day, mistakes in zip((FIRST, SECOND, THIRD), wrong, strict=True)
        )
        self.number = 0

    def _register(self, day: Partition, folder: Path) -> int:
        known = {"params": {}, "metrics": {}, "config_hash": self.world.task.config_hash}
        return self.registry.register(_TASK, day, run_key=day, folder=folder, labels=LABELS, **known).version

    def fresh(self) -> None:
        """Begin again: a new lake, and the poor version is champion."""
        self.number += 1
        settings = self.world.settings.model_copy(update={"lake": f"s3://{self.world.bucket}/lake-{self.number}"})
        self.lake = Lake.from_settings(settings)
        self.lake.create_tables()
        gold = settings.include / "gold" / f"{FIRST}.jsonl"
        import_gold(Run(self.world.task, FIRST, "gold"), gold, lake=self.lake, settings=settings)
        self._client.delete_registered_model_alias(model_name(_TASK), "champion")
        promote(Run(self.world.task, FIRST, "first"), lake=self.lake, registry=self.registry)

    def promote(self, day: Partition) -> Fork:
        argv = ["promote", "--task", _TASK, "--partition", day, "--run", f"run-{day}"]
        environment = {**self.world.environment, "LLAMBERT_LAKE": self.lake.uri}
        return llambert(argv, log=_log(self.world, "promote"), environment=environment)

    def again(self, day: Partition) -> int | None:
        """Promote until trying again does not help any more, as Airflow does."""
        code: int | None = _AGAIN
        for _ in range(4):
            if code == _AGAIN:
                code = self.promote(day).wait()
        return code

    def wrong(self, *moves: list[tuple[int | None, int]]) -> str | None:
        """Return what is wrong where the best is not champion or the log holds none of these `moves`."""
        champion = self.registry.champion(_TASK)
        rows = self.lake.scan("promotions", _TASK).sort("number").select("from_version", "to_version").collect().rows()
        first: list[tuple[int | None, int]] = [(None, self.poor)]
        if champion is not None and champion.version == self.best and rows in [first + each for each in moves]:
            return None
        return f"champion {champion and champion.version}, moves {rows}"


def promotions(house: House, rounds: int, seed: int, say: Callable[[str], None]) -> list[str]:
    """Let a fair and the best version be promoted at once, in four ways: the best must be champion in the end."""
    tracking, problems = house.tracking, []
    dice = random.Random(seed)  # noqa: S311 - no secret
    ways = ("together", "both before either moves the alias", "the fair one late", "the best one late")
    for number in range(rounds):
        house.fresh()
        way = ways[number % len(ways)]
        if way == "together":
            first = house.promote(SECOND)
            first.wait(dice.uniform(0, 1.0))
            codes = {THIRD: house.promote(THIRD).wait(), SECOND: first.wait()}
        elif way == "both before either moves the alias":
            tracking.rule("gather", "POST", _SET_ALIAS, times=2)
            forks = {day: house.promote(day) for day in (SECOND, THIRD)}
            codes = {day: fork.wait() for day, fork in forks.items()}
        else:
            late, other = (SECOND, THIRD) if way == "the fair one late" else (THIRD, SECOND)
            rule = tracking.rule("delay", "POST", _SET_ALIAS)
            fork = house.promote(late)
            tracking.reached(rule)
            codes = {other: house.promote(other).wait()}
            tracking.release(rule)
            codes[late] = fork.wait()
        tracking.reset()
        ends = {day: house.again(day) if code == _AGAIN else code for day, code in codes.items()}
        wrong = house.wrong(
            [(house.poor, house.best)],
            [(house.poor, house.fair), (house.fair, house.best)],
            [(house.poor, house.best), (house.best, house.fair), (house.fair, house.best)],
        )
        if wrong or set(ends.values()) != {0}:
            problems.append(f"round {number}, {way}: exit codes {codes}, then {ends}: {wrong}")
        say(f"race of promotions {number + 1} of {rounds}, {way}: {codes} {len(problems)} problems")
    return problems


def crashes(house: House, say: Callable[[str], None]) -> tuple[int, list[str]]:
    """Kill a promotion at each of its requests to MLflow; each time a second run must finish it, and enter it once."""
    tracking, problems = house.tracking, []
    house.fresh()
    rule = tracking.rule("delay", ".*", ".*", times=None, seconds=0)
    house.promote(THIRD).wait()
    requests = tracking.seen(rule)
    tracking.reset()
    # Killed before a request, it has made those before it: only the last one has no such successor.
    for number in range(1, requests + 2):
        when = "kill_before" if number <= requests else "kill_after"
        house.fresh()
        fork = house.promote(THIRD)
        tracking.rule(when, ".*", ".*", nth=min(number, requests), pid=fork.pid)
        code = fork.wait()
        tracking.reset()
        end, wrong = house.again(THIRD), house.wrong([(house.poor, house.best)])
        if wrong or end != 0 or code not in (0, -signal.SIGKILL):
            problems.append(f"{when} request {min(number, requests)}: {code}, then {end}: {wrong}")
        say(f"promotion killed at request {number} of {requests}: {code}, {len(problems)} problems")
    return requests, problems


def _log(world: World, name: str) -> Path:
    return world.root / "logs" / f"{name}-{random.getrandbits(64):016x}.log"  # noqa: S311 - no secret
