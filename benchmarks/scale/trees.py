"""Two trees of this project side by side: one step in a process of its own, and what it cost."""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from laptop.host import FOREIGN, QUIET
from laptop.stack import REPOSITORY

# Before any of the work on columns and increments: what the figures are held against.
PEER = "c5a9b4e"
_STEP = Path(__file__).parent / "step.py"
_FILL = Path(__file__).parent / "fill.py"
_LOOK_SECONDS = 0.01
_MB = 1e6


class Tree(NamedTuple):
    """A name for the tables, and where the code lies."""

    name: str
    root: Path


OURS = Tree("this commit", REPOSITORY)


class Cost(NamedTuple):
    """CPU seconds (user and system), the peak of anonymous memory and all that was read, both in MB of 10^6 bytes."""

    cpu_seconds: float
    peak_mb: float
    read_mb: float

    def __add__(self, other: object) -> "Cost":
        """Return the cost of one step after the other."""
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(
            self.cpu_seconds + other.cpu_seconds, max(self.peak_mb, other.peak_mb), self.read_mb + other.read_mb
        )


@contextmanager
def peer(commit: str = PEER) -> Iterator[Tree]:
    """Check the commit out beside this tree, for as long as the context lasts; it runs on this tree's packages."""
    with tempfile.TemporaryDirectory(prefix="llambert-peer-") as folder:
        root = Path(folder) / "tree"
        _git("worktree", "add", "--quiet", "--detach", str(root), commit)
        try:
            yield Tree(commit, root)
        finally:
            _git("worktree", "remove", "--force", str(root))


def run_command(tree: Tree, environment: Mapping[str, str], *arguments: str) -> Cost:
    """Run a command of `llambert` with the tree's code, from the start of the interpreter on."""
    return _run(tree, environment, ["-c", "from llambert_etl.cli import main; main()", *arguments])


def run_step(tree: Tree, environment: Mapping[str, str], step: str, **options: object) -> Cost:
    """Run one of the steps of `step.py`, which need no registry and no model, with the tree's code."""
    return _run(tree, environment, ["-P", str(_STEP), step, *(f"{name}={value}" for name, value in options.items())])


def fill(tree: Tree, environment: Mapping[str, str], what: str, **options: object) -> Cost:
    """Fill a lake by `fill.py` with the tree's code."""
    return _run(tree, environment, ["-P", str(_FILL), what, *(f"{name}={value}" for name, value in options.items())])


def run_program(name: str, environment: Mapping[str, str], *arguments: str) -> Cost:
    """Run another program, such as a peer with packages of its own."""
    become = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
    return _run(Tree(name, REPOSITORY), environment, ["-c", become, *arguments])


def _run(tree: Tree, environment: Mapping[str, str], arguments: Sequence[str]) -> Cost:
    """Raise SystemExit with what the process has said where it failed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tree.root)}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=tree.root,
            env={**inherited, **QUIET, **own, **environment},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        watch = _Watch(process.pid)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        watch.stop()
        if process.returncode:
            said.seek(0)
            text = said.read().decode(errors="replace")
            raise SystemExit(f"{tree.name}: {' '.join(arguments)} ended with {process.returncode}:\n{text}")
    return Cost(used.ru_utime + used.ru_stime, watch.peak / _MB, watch.read / _MB)


def medians(costs: Mapping[str, Sequence[Cost]]) -> dict[str, dict[str, float]]:
    """Return the median of each figure over a tree's rounds."""
    return {
        name: {field: round(statistics.median(getattr(cost, field) for cost in found), 2) for field in Cost._fields}
        for name, found in costs.items()
    }


def beside(found: Mapping[str, Mapping[str, float]]) -> dict[str, object]:
    """Return the costs of each, and how many times the CPU seconds of this tree the others take."""
    ours = found[OURS.name]["cpu_seconds"]
    times = {name: round(cost["cpu_seconds"] / ours, 2) for name, cost in found.items() if name != OURS.name}
    return {**found, "times_the_cpu_of_ours": times}


class _Watch:
    """Looks at a process's memory and reads every few milliseconds: the kernel keeps no peak of anonymous memory."""

    def __init__(self, pid: int) -> None:
        self.peak, self.read = 0, 0
        self._proc, self._over = Path(f"/proc/{pid}"), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            with suppress(OSError):  # it has ended
                status = (self._proc / "status").read_text(encoding="ascii", errors="replace")
                if found := re.search(r"RssAnon:\s+(\d+) kB", status):
                    self.peak = max(self.peak, int(found[1]) * 1024)
                counted = re.search(r"rchar: (\d+)", (self._proc / "io").read_text(encoding="ascii"))
                self.read = max(self.read, int(counted[1]) if counted else 0)


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=REPOSITORY, check=True, capture_output=True)
