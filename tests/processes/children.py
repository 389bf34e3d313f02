"""Functions of a tests module in processes of their own, which can be held, killed, paused and started together."""

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from typing import Any, Self

from llambert_etl.errors import LlambertError

DEADLINE = 120.0


class Child:
    """A generator function of a tests module in its own process: it runs to its `yield`, and on from there after `go`.

    Its result, or the exit code of the error that it raised, is what `result` returns.
    """

    def __init__(self, function: Callable[..., Generator[None, None, Any]], *arguments: Any) -> None:
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", "from tests.processes.children import child; child()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self.pid = self._process.pid
        self._tell([function.__module__, function.__qualname__, arguments])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def ready(self) -> Self:
        """Wait until it stands at its `yield`."""
        assert self._process.stdout is not None
        found, _, _ = select.select([self._process.stdout], [], [], DEADLINE)
        assert found, "the child did not become ready in time"
        assert self._process.stdout.readline() == "ready\n", self.errors()
        return self

    def go(self) -> None:
        self._tell("go")

    def wait(self) -> int:
        """Return the exit code, or minus the signal that ended it."""
        return self._process.wait(DEADLINE)

    def result(self) -> Any:
        assert self._process.stdout is not None
        code = self.wait()
        return json.loads(self._process.stdout.read()) if code == 0 else code

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read()

    def _tell(self, what: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()


def child() -> None:
    """The main function of a Child."""
    module, name, arguments = json.loads(sys.stdin.readline())
    steps = getattr(importlib.import_module(module), name)(*arguments)
    try:
        next(steps)
        print("ready", flush=True)
        sys.stdin.readline()
        next(steps)
    except StopIteration as end:
        print(json.dumps(end.value))
    except LlambertError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def race(children: list[Child]) -> list[Any]:
    """Start all at one moment; return each one's result or exit code."""
    for each in children:
        each.ready()
    for each in children:
        each.go()
    return [each.result() for each in children]
