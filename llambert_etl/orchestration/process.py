"""A step as a process that outlives the worker that started it, so that a retry finds it again."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

# The shell records the exit code of the step, for a worker that was not there when the step ended.
_SHELL = 'echo $$ > "$0/pid"; "$@" > "$0/out" 2> "$0/err"; echo $? > "$0/rc.new"; mv "$0/rc.new" "$0/rc"'

# Ends a step that nobody has taken for as long as it may wait, and kills it where it has not ended in time.
_WATCH = """
mine() { [ "$(cat "$0/owner" 2> /dev/null)" = "$1" ] && [ ! -e "$0/rc" ]; }
waited=0
while mine "$1"; do
    [ $waited -ne $2 ] || kill -TERM -- "-$(cat "$0/pid")"
    [ $waited -lt $3 ] || exec kill -KILL -- "-$(cat "$0/pid")"
    sleep 1
    waited=$((waited + 1))
done
"""

_MAX_LINE = 4_000
_MAX_READ = 1 << 20


class StepProcess:
    """One process group and the folder that holds its output, exit code and lock.

    The lock is held by the open file that the process inherits, from before it starts until the last of its group has
    ended, however it ends. So it says whether the step runs, even to a worker that starts after the first was killed,
    and no process number can be mistaken for another's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = uuid.uuid4().hex
        self._read = 0

    def start(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Start `argv` in a session of its own, so that no signal to the worker's group reaches it."""
        self.take()
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._child = subprocess.Popen(  # noqa: S603 - our own argv; the values in it are arguments, not shell text
                ["/bin/sh", "-c", _SHELL, str(self.folder), *argv],
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # Airflow waits until each pipe that a task inherited is closed
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[lock.fileno()],
            )

    def take(self) -> None:
        """Note that the step is this object's now, whichever worker's it was."""
        part = self.folder / f"owner-{self._owner}"
        part.write_text(self._owner)
        part.replace(self.folder / "owner")

    def leave(self, patience: int, grace: int = 20) -> None:
        """Let the step run on without this worker. It is ended when nobody has taken it for `patience` seconds.

        Where the next try comes on another host it starts the step again, and this one would work beside it in vain.
        """
        seconds = [str(patience), str(patience + grace)]
        subprocess.Popen(  # noqa: S603 - our own argv
            ["/bin/sh", "-c", _WATCH, str(self.folder), self._owner, *seconds],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def running(self) -> bool:
        if self._child:
            self._child.poll()
        try:
            with (self.folder / "lock").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        return False

    @property
    def exit_code(self) -> int | None:
        """Return the recorded exit code; None while running, and for ever where the whole group was killed."""
        text = self._text("rc").strip()
        return int(text) if text else None

    def new_lines(self) -> Iterator[str]:
        """Yield each line of stderr that is complete and was not yielded before."""
        with contextlib.suppress(FileNotFoundError), (self.folder / "err").open("rb") as file:
            file.seek(self._read)
            chunk = file.read(_MAX_READ)
            end = chunk.rfind(b"\n") + 1 or (len(chunk) if len(chunk) == _MAX_READ else 0)
            self._read += end
            for line in chunk[:end].decode("utf-8", errors="replace").split("\n"):
                if line:
                    yield line[:_MAX_LINE]

    def last_line(self, stream: str) -> str:
        """Return the last line of `out` or `err` that is not blank."""
        with contextlib.suppress(FileNotFoundError), (self.folder / stream).open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _MAX_READ, 0))
            lines = file.read().decode("utf-8", errors="replace").split("\n")
            return next((line for line in reversed(lines) if line.strip()), "")
        return ""

    def stop(self, grace: float) -> None:
        """Ask the group to end, and kill it when it has not within `grace` seconds."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            group = self._child.pid if self._child else int(self._text("pid") or 0)
            if group:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, number)
            deadline = time.monotonic() + grace
            while self.running and time.monotonic() < deadline:
                time.sleep(0.05)
            if not self.running:
                return

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _text(self, name: str) -> str:
        try:
            return (self.folder / name).read_text()
        except FileNotFoundError:
            return ""
