"""Sabotage: guards are removed one by one from copies of the repository, and each time a test must turn red."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from laptop.stack import REPOSITORY
from tests.verify_faults import answer_guards, champion_guards, encoder_guards, pod_guards
from tests.verify_faults.guards import GUARDS, Guard

ALL = (*GUARDS, *answer_guards.GUARDS, *champion_guards.GUARDS, *encoder_guards.GUARDS, *pod_guards.GUARDS)
_DEADLINE = 900
_AT_ONCE = 2  # copies, each without another guard
_FAILED = 1  # pytest's exit code where tests failed; another one means that they did not run


def sabotage(say: Callable[[str], None]) -> dict[str, Any]:
    """Return each guard with the test that missed it, and as problems the guards that no test missed."""
    problems = [f"{guard.name}: {why}" for guard in ALL if (why := stale(guard, REPOSITORY))]
    with tempfile.TemporaryDirectory(prefix="llambert-sabotage-") as folder:
        copies = SimpleQueue[Path]()
        for number in range(_AT_ONCE):
            copies.put(_copy(Path(folder) / f"copy-{number}"))
        say("sabotage: the tests without any sabotage")
        copy = copies.get()
        whole = _pytest(copy, sorted({guard.test for guard in ALL}))
        copies.put(copy)
        if whole.returncode != 0:
            return {"guards": [], "problems": [*problems, f"red without sabotage:\n{whole.stdout[-3000:]}"]}

        def missed(guard: Guard) -> dict[str, Any]:
            copy, started = copies.get(), time.monotonic()
            try:
                red, said = _without(copy, guard)
            finally:
                copies.put(copy)
            if not red:
                problems.append(f"{guard.name}: removed, and {guard.test} did not fail:\n{said[-1000:]}")
            say(f"sabotage: {guard.name}: {'red' if red else 'NOT RED'}")
            seconds = round(time.monotonic() - started, 1)
            return {"guard": guard.name, "file": guard.file, "test": guard.test, "red": red, "seconds": seconds}

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(missed, [guard for guard in ALL if not stale(guard, copy)]))
    return {"guards": found, "problems": problems}


def stale(guard: Guard, root: Path) -> str | None:
    """Say why the guard could not be removed: its text stands elsewhere by now, or twice."""
    times = (root / guard.file).read_text(encoding="utf-8").count(guard.old)
    return None if times == 1 else f"{guard.old!r} stands {times} times in {guard.file}; mend it in tests/verify_faults"


def _copy(target: Path) -> Path:
    """Copy what git knows of or would take in."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (REPOSITORY / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, target / name)
    (target / ".models").symlink_to(REPOSITORY / ".models")
    return target


def _without(copy: Path, guard: Guard) -> tuple[bool, str]:
    """Return whether the guard's test fails while the guard is gone, and what pytest said."""
    file = copy / guard.file
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(guard.old, guard.new), encoding="utf-8")
    try:
        done = _pytest(copy, [guard.test])
    finally:
        file.write_text(text, encoding="utf-8")
    failed = f"FAILED {guard.test}" in done.stdout and "\nERROR " not in done.stdout
    return done.returncode == _FAILED and failed, done.stdout


def _pytest(copy: Path, tests: list[str]) -> subprocess.CompletedProcess[str]:
    # The copy comes first on the path, before the package that is installed for the repository itself.
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    return subprocess.run(
        argv, cwd=copy, env=environment, capture_output=True, text=True, timeout=_DEADLINE, check=False
    )
