"""A server as a child process in a session of its own: started, awaited, and stopped with all that it started."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil

from llambert_etl.errors import TransientError
from llambert_etl.signals import handling

# In the environment of every process of a stack: `<state folder>/<server>`.
MARKER = "LLAMBERT_STACK"

_RECORD = ".pid"
_POLL_SECONDS = 0.1
_NEVER = float("inf")
_TAIL_LINES = 15


class Server:
    """One server. `ready` is asked until it is true; `deadline` and `grace` are in seconds."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        folder: Path,
        ready: Callable[[], bool],
        deadline: float = 90.0,
        grace: float = 10.0,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.marker = f"{folder.resolve()}/{name}"
        self._argv = list(argv)
        self._env = {**env, MARKER: self.marker}
        self._folder = folder
        self._ready = ready
        self._deadline = deadline
        self._grace = grace
        self._process: subprocess.Popen[bytes] | None = None
        self._launched = False
        self._kill_at = _NEVER

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start and wait until ready; after a failure nothing is left running."""
        try:
            self.launch()
            self.wait_ready()
        except BaseException:
            self.stop()
            raise

    def launch(self) -> None:
        """Start without waiting."""
        if self.running:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self._kill_at = _NEVER
        self._launched = True  # before: a signal may come when the process is there and nobody knows its number yet
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own argv, no shell
                self._argv,
                env=self._env,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started = psutil.Process(self._process.pid).create_time()
        (self._folder / f"{self.name}{_RECORD}").write_text(json.dumps([self._process.pid, started]))

    def wait_ready(self) -> None:
        """Return when the server answers; raise TransientError with the end of its log when it ends or is too late."""
        end = time.monotonic() + self._deadline
        while not self._ready():
            if not self.running:
                raise self.failure("ended before it was ready")
            if time.monotonic() > end:
                raise self.failure(f"was not ready within {self._deadline:.0f} s")
            time.sleep(_POLL_SECONDS)

    def failure(self, what: str) -> TransientError:
        """Return an error that says what happened to this server and quotes its log."""
        code = self._process.poll() if self._process else None
        exited = "" if code is None else f" (exit code {code})"
        return TransientError(f"{self.name} {what}{exited}; the end of {self.log}:\n{tail(self.log)}")

    def stop(self) -> None:
        """End every process of this server: TERM, then KILL after the grace. Stopping twice does nothing."""
        if not self._launched:
            return
        self.ask_to_end()
        _await_end(self.processes, self._kill_at)
        if self._process is not None:
            self._process.wait()
        (self._folder / f"{self.name}{_RECORD}").unlink(missing_ok=True)

    def ask_to_end(self) -> None:
        """Send TERM to every process of this server, once and without waiting. The grace begins now."""
        if self._kill_at == _NEVER:
            self._kill_at = time.monotonic() + self._grace
            _send(self.processes(), signal.SIGTERM)

    def processes(self) -> list[psutil.Process]:
        """Return what is alive of this server."""
        return members(lambda mark: mark == self.marker, {self.pid} if self.pid else set())


def stop_all(servers: Sequence[Server]) -> None:
    """Stop servers side by side: the slowest decides how long it takes."""
    for server in servers:
        server.ask_to_end()
    for server in servers:
        server.stop()


def processes_under(state: Path) -> list[psutil.Process]:
    """Return what is alive of every server of a state folder, whichever process started it."""
    prefix = f"{state.resolve()}/"
    return members(lambda mark: mark.startswith(prefix), set(_recorded_sessions(state)))


def members(is_ours: Callable[[str], bool], sessions: Set[int]) -> list[psutil.Process]:
    """Return the living processes of these sessions, and those whose environment carries our marker.

    Neither sign is enough alone: Airflow overwrites the environment of its processes with their titles, and a step
    starts a session of its own in order to outlive its worker.
    """
    return [process for process in psutil.process_iter() if _belongs(process, is_ours, sessions)]


def _belongs(process: psutil.Process, is_ours: Callable[[str], bool], sessions: Set[int]) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return os.getsid(process.pid) in sessions or is_ours(process.environ().get(MARKER, ""))
    except (psutil.Error, OSError):  # it has ended, or belongs to another user
        return False


def _recorded_sessions(state: Path) -> Iterator[int]:
    for record in state.glob(f"*/*{_RECORD}"):
        with suppress(OSError, ValueError):
            pid, started = json.loads(record.read_text())
            # While a session has members its number is not given to a process again; since a restart it may have been.
            if started >= psutil.boot_time() and _started(pid) in (None, started):
                yield pid


def _started(pid: int) -> float | None:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def end_processes(find: Callable[[], list[psutil.Process]], *, grace: float) -> None:
    """Ask the processes to end, and kill what is left, and what they started meanwhile, after `grace` seconds."""
    _send(find(), signal.SIGTERM)
    _await_end(find, time.monotonic() + grace)


def _await_end(find: Callable[[], list[psutil.Process]], kill_at: float) -> None:
    while left := find():
        if time.monotonic() > kill_at:
            _send(left, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)


def _send(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)


def tail(log: Path, lines: int = _TAIL_LINES) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"


@contextmanager
def interruptible() -> Iterator[None]:
    """Let TERM and HUP unwind the stack as Ctrl-C does, so that servers are stopped; exit code 128 + signal."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    with handling(leave, signal.SIGTERM, signal.SIGHUP):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C and TERM for a moment: a second, impatient one would leave servers running."""
    with handling(signal.SIG_IGN, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield
