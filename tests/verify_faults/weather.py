"""Runs commands until they end well: in calm weather, where what is usual is measured, or in a storm of faults."""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llambert_etl.errors import TransientError
from tests.fakes.proxy import Proxy
from tests.processes.forks import DEADLINE, Fork, llambert
from tests.verify_faults.world import World, command_of

# So often a command meets a fault before it is left in peace.
_STORMY = 4
_KILLED, _ENDED = -signal.SIGKILL, -signal.SIGTERM


@dataclass(frozen=True)
class Usual:
    """What one command of a name does when nothing is wrong."""

    seconds: float
    store: int
    tracking: int


@dataclass(frozen=True)
class Weather:
    """One fault: of a proxy at the requests from `nth` on, or a signal after `seconds`. `twins`: all runs twice."""

    kind: str
    where: str = "process"
    nth: int = 1
    times: int = 1
    seconds: float = 0.0
    twins: bool = False

    def __str__(self) -> str:
        proxied = f" at {self.where} request {self.nth}, {self.times}x"
        at = "" if self.kind == "calm" else f" after {self.seconds:.1f} s" if self.where == "process" else proxied
        return f"{'twins, ' if self.twins else ''}{self.kind}{at}"


@dataclass
class Account:
    """What a storm did and what came of it. `misjudged`: ends that send a person where waiting was enough."""

    faults: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    commands: int = 0
    misjudged: list[str] = field(default_factory=list)


_CHANCES: dict[str, int] = {
    "calm": 12,
    "kill_before": 12,
    "kill_after": 12,
    "SIGKILL": 10,
    "SIGTERM": 10,
    "503": 10,
    "500_after": 10,
    "drop_before": 6,
    "drop_after": 8,
    "delay": 5,
    "truncate": 5,
}
_BURST = {"503": 4, "delay": 4, "drop_before": 2}


def draw(dice: random.Random, usual: Usual, commands: int) -> Weather:
    """Draw a fault that is likely to strike while so many commands run."""
    twins = dice.random() < 0.25
    (kind,) = dice.choices(list(_CHANCES), list(_CHANCES.values()))
    if kind in ("calm", "SIGKILL", "SIGTERM"):
        return Weather(kind, seconds=dice.uniform(0, usual.seconds), twins=twins)
    requests = {"store": usual.store * commands, "tracking": usual.tracking * commands}
    (where,) = dice.choices(list(requests), [max(count, 0) + 0.01 for count in requests.values()])
    return Weather(
        kind,
        where,
        nth=dice.randint(1, max(1, requests[where])),
        times=dice.randint(1, _BURST.get(kind, 1)),
        seconds=dice.uniform(0.2, 2.0),
        twins=twins,
    )


class Runner:
    """Starts the commands of one world, each with logs of its own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._number = 0

    def start(self, argv: list[str]) -> Fork:
        self._number += 1
        name = f"{self._number:04d}-{time.monotonic_ns()}-{command_of(argv).replace(' ', '-')}.log"
        return llambert(argv, log=self.world.root / "logs" / name, environment=self.world.environment)

    @property
    def proxies(self) -> dict[str, Proxy]:
        return {"store": self.world.ground.store, "tracking": self.world.ground.tracking}

    def reset(self) -> None:
        for proxy in self.proxies.values():
            proxy.reset()


class Calm(Runner):
    """Runs commands once, without faults. Each must end well."""

    def __init__(self, world: World, usual: dict[str, Usual]) -> None:
        super().__init__(world)
        self._usual = usual

    def __call__(self, *commands: list[str]) -> list[dict[str, Any]]:
        count = {"times": None, "seconds": 0}
        counters = {name: proxy.rule("delay", ".*", ".*", **count) for name, proxy in self.proxies.items()}
        started, forks = time.monotonic(), [self.start(argv) for argv in commands]
        for fork, argv in zip(forks, commands, strict=True):
            code = fork.wait()
            assert code == 0, f"without faults, {' '.join(argv)} ended with {code}: {fork.last_words} ({fork.log})"
        if commands:
            store, tracking = (-(-self.proxies[name].seen(rule) // len(commands)) for name, rule in counters.items())
            self._usual.setdefault(command_of(commands[0]), Usual(time.monotonic() - started, store, tracking))
        self.reset()
        return [fork.manifest for fork in forks]


class Storm(Runner):
    """Runs commands again and again, with a fault at nearly every try, until each has ended well."""

    def __init__(
        self,
        world: World,
        usual: dict[str, Usual],
        dice: random.Random,
        account: Account,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(world)
        self._usual, self._dice, self.account, self._say = usual, dice, account, say

    def __call__(self, *commands: list[str]) -> list[dict[str, Any]]:
        done: dict[int, dict[str, Any]] = {}
        for number in range(_STORMY + 1):
            waiting = {index: argv for index, argv in enumerate(commands) if index not in done}
            if not waiting:
                break
            usual = self._usual[command_of(commands[0])]
            weather = draw(self._dice, usual, len(waiting)) if number < _STORMY else Weather("calm")
            done |= self._try(waiting, weather)
        lost = [" ".join(argv) for index, argv in enumerate(commands) if index not in done]
        assert not lost, f"never ended well: {lost}"
        return [done[index] for index in range(len(commands))]

    def _try(self, waiting: dict[int, list[str]], weather: Weather) -> dict[int, dict[str, Any]]:
        """Start all that waits, let the fault strike, and return the manifests of what ended well."""
        forks = [(index, self.start(argv)) for index, argv in waiting.items() for _ in range(1 + weather.twins)]
        self._strike(forks[0][1], weather)
        done: dict[int, dict[str, Any]] = {}
        ends = []
        for index, fork in forks:
            code = fork.wait()
            self._judge(waiting[index], fork, code, weather)
            ends.append(code)
            if code == 0:
                done[index] = fork.manifest
        self.reset()
        self.account.faults.update([weather.kind, *(["twins"] if weather.twins else [])])
        self._say(f"{command_of(next(iter(waiting.values()))):18} {weather!s:36} -> {ends}")
        return done

    def _strike(self, fork: Fork, weather: Weather) -> None:
        if weather.kind in ("SIGKILL", "SIGTERM"):
            fork.wait(weather.seconds)
            fork.send(signal.Signals[weather.kind])
        elif weather.kind != "calm":
            method = "GET" if weather.kind == "truncate" else ".*"
            options = {"nth": weather.nth, "times": weather.times, "seconds": weather.seconds, "pid": fork.pid}
            self.proxies[weather.where].rule(weather.kind, method, ".*", **options)  # type: ignore[arg-type]

    def _judge(self, argv: list[str], fork: Fork, code: int | None, weather: Weather) -> None:
        self.account.commands += 1
        self.account.ends[str(code)] += 1
        expected = {0, TransientError.exit_code}
        expected |= {_KILLED} if "kill" in weather.kind.lower() else set()
        expected |= {_ENDED} if weather.kind == "SIGTERM" else set()
        said = fork.last_words
        if code is None:
            fork.send(signal.SIGKILL)
            said = f"still ran after {DEADLINE:.0f} s"
        if code not in expected:
            self._say(Path(fork.log).read_text(encoding="utf-8", errors="replace")[-3_000:])  # the folder is removed
            self.account.misjudged.append(f"{' '.join(argv)} in {weather}: {code}, {said} ({fork.log})")


def differences(wanted: dict[str, set[str]], found: dict[str, set[str]]) -> Iterator[str]:
    """Say in which tables two ends differ, with an example of each side."""
    for table in wanted:
        missing, extra = wanted[table] - found[table], found[table] - wanted[table]
        if missing or extra:
            examples = [*sorted(missing)[:1], *sorted(extra)[:1]]
            yield f"{table}: {len(missing)} rows missing and {len(extra)} too many, such as {examples}"
