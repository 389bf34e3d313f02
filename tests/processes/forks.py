"""Functions in processes that start in a moment: forked from one process that has imported what is heavy."""

import contextlib
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from llambert_etl import cli
from llambert_etl.errors import LlambertError

DEADLINE = 240.0

_CONTEXT = multiprocessing.get_context("forkserver")
# All that a command imports late, so that a fork imports nothing.
_HEAVY = (
    "llambert_etl.cli.app",
    "llambert_etl.encoder.inference",
    "llambert_etl.encoder.plots",
    "llambert_etl.encoder.training",
    "llambert_etl.llm.local",
    "llambert_etl.registry.client",
    *(
        f"llambert_etl.steps.{step}"
        for step in ("annotate", "gold", "ingest", "label", "plan", "promote", "publish", "train")
    ),
    "mlflow.artifacts",
    "mlflow.pyfunc",
)
_preloaded = [*_HEAVY, __name__]


def preload(*modules: str) -> None:
    """Have more imported ahead. The first Fork waits for it, and nothing can be added from then on."""
    _preloaded.extend(modules)
    _CONTEXT.set_forkserver_preload(_preloaded)


preload()


def import_now() -> None:
    """Import ahead what the first Fork would wait for."""
    first = _CONTEXT.Process(target=int)
    first.start()
    first.join()


def barrier(parties: int) -> Any:
    """Return what so many forks may wait at until all are there."""
    return _CONTEXT.Barrier(parties, timeout=DEADLINE)


class Fork:
    """A call in its own process, with its own variables and two files for what it prints.

    It ends with the code that the function returns (0 for none), or with that of the error which it raised.
    """

    def __init__(
        self, function: Callable[..., Any], *arguments: Any, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log, self._out = log, log.with_suffix(".out")
        for path in (self.log, self._out):
            path.touch(mode=0o600)  # or one that is killed at once leaves none to read
        call = (function, arguments, dict(environment or {}), str(log), str(self._out))
        self._process = _CONTEXT.Process(target=_call, args=call, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    def send(self, signal: int) -> None:
        if self._process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal)

    def wait(self, seconds: float = DEADLINE) -> int | None:
        """Return the exit code, or minus the signal that ended it; None where it still runs."""
        self._process.join(seconds)
        return self._process.exitcode

    @property
    def manifest(self) -> dict[str, Any]:
        """Return what a command said it did: the last line of its output."""
        found: dict[str, Any] = json.loads(self._out.read_text().splitlines()[-1])
        return found

    @property
    def last_words(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else ""


def llambert(argv: list[str], *, log: Path, environment: Mapping[str, str]) -> Fork:
    """Start one command of `llambert`."""
    return Fork(cli.run, argv, log=log, environment=environment)


def _call(
    function: Callable[..., Any], arguments: tuple[Any, ...], environment: dict[str, str], log: str, out: str
) -> None:
    for path, stream in ((out, 1), (log, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), stream)
    os.environ.update(environment)
    try:
        code = function(*arguments)
    except LlambertError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        code = error.exit_code
    sys.exit(code)
