"""A randomised soak: three nights under random faults, over and over, each then held against nights without any."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from tests.verify_faults.invariants import violations
from tests.verify_faults.weather import Account, Calm, Storm, Usual, differences
from tests.verify_faults.world import Ground, World, dumps, nights


def soak(ground: Ground, seed: int, minutes: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Begin rounds until the time is over; return what was done, and every problem found."""
    usual: dict[str, Usual] = {}
    calm = World(ground, "calm")
    say("soak: without faults")
    for run in ("night", "clean"):
        nights(calm, run, Calm(calm, usual))
    wanted, problems = calm.state(), inspect(calm, settled=True)
    assert {len(wanted[table]) > 0 for table in wanted} == {True}, "a corpus that fills every table"
    assert len(wanted["promotions"]) > 1, "a champion that another follows"
    account, rounds, end = Account(), 0, time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        rounds += 1
        say(f"soak: round {rounds}")
        dice = random.Random(f"{seed}/{rounds}")  # noqa: S311 - no secret
        try:
            problems += _round(World(ground, f"storm_{rounds}"), usual, dice, account, say, wanted)
        except AssertionError as error:  # a command that never ends well ends its round
            problems.append(f"round {rounds}: {error}")
    return {
        "minutes": minutes,
        "rounds": rounds,
        "commands": account.commands,
        "faults": dict(account.faults.most_common()),
        "exit_codes": dict(account.ends.most_common()),
        "rows_compared": {table: len(rows) for table, rows in wanted.items()},
        "moves": len(wanted["promotions"]),
        "problems": problems + account.misjudged,
    }


def _round(
    world: World,
    usual: dict[str, Usual],
    dice: random.Random,
    account: Account,
    say: Callable[[str], None],
    wanted: dict[str, list[tuple[Any, ...]]],
) -> list[str]:
    nights(world, "night", Storm(world, usual, dice, account, say))
    problems = _label(world, "after the storm", inspect(world, settled=False))
    nights(world, "clean", Calm(world, usual))
    problems += _label(world, "after the clean run", inspect(world, settled=True))
    return problems + _label(world, "not as without faults", differences(dumps(wanted), dumps(world.state())))


def inspect(world: World, *, settled: bool) -> list[str]:
    s3, mlflow = world.ground.s3, world.ground.mlflow
    secrets = {"s3_secret_key": s3.secret_key, "mlflow_password": mlflow.password}
    found = violations(world.task, world.settings, settled=settled, secrets=secrets, written=world.written())
    return [f"{text} (x{count})" for text, count in Counter(found).items()]


def _label(world: World, when: str, found: Iterable[str]) -> list[str]:
    return [f"{world.task.name}, {when}: {text}" for text in found]
