"""The steps that no fault is meant for, by hand: what a scenario begins with, and the same days without faults."""

from llambert_etl.partition import Partition
from tests.verify_airflow.production import Production
from tests.verify_faults.invariants import violations
from tests.verify_faults.weather import Calm, differences
from tests.verify_faults.world import FIRST, World, dumps

_PER_DAY = 40


class Hand:
    """Runs steps of one world, each a process that must end well."""

    def __init__(self, world: World) -> None:
        self._world, self._do = world, Calm(world, {})

    def first_day(self) -> None:
        gold = self._world.settings.include / "gold" / f"{FIRST}.jsonl"
        self.drop(FIRST)
        self.ingest(FIRST)
        for name in (f"gold import {gold}", "annotate", "check annotations", "train", "promote"):
            self._step(name, FIRST)
        self.label(FIRST)

    def drop(self, day: Partition) -> None:
        """Put the day's file; no text of it is another day's, so that each has to be inferred."""
        self._world.drop(day, "reviews", _PER_DAY * (int(day[-2:]) - int(FIRST[-2:])))

    def ingest(self, day: Partition) -> None:
        self._step("ingest", day)
        self._step("check documents", day)

    def label(self, day: Partition) -> None:
        plan = self._step("plan", day)
        for shard in range(plan["facts"]["shards"]):
            self._step("label", day, "--shard", str(shard))
        self._step("check labels", day)
        self._step("publish", day)

    def _step(self, name: str, day: Partition, *options: str) -> dict[str, dict[str, int]]:
        argv = [*name.split(), "--task", self._world.task.name, "--partition", day, "--run", "by-hand", *options]
        return self._do(argv)[0]


def compare(production: Production, days: list[Partition]) -> list[str]:
    """Return in what the tables differ from those of a world without faults, and where a secret was written."""
    world, ground = production.world, production.world.ground
    undisturbed = World(ground, "undisturbed")
    hand = Hand(undisturbed)
    hand.first_day()
    for day in days:
        hand.drop(day)
        hand.ingest(day)
        hand.label(day)
    found = [f"not as without faults: {text}" for text in differences(dumps(undisturbed.state()), dumps(world.state()))]
    secrets = {
        "s3_secret_key": ground.s3.secret_key,
        "mlflow_password": ground.mlflow.password,
        "postgres_password": production.postgres.password,
    }
    return found + violations(world.task, world.settings, settled=True, secrets=secrets, written=world.written())
