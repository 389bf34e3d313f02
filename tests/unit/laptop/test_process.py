"""Servers as child processes: started, awaited by a condition, stopped with everything that they started."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from laptop.process import (
    MARKER,
    Server,
    end_processes,
    interruptible,
    processes_under,
    stop_all,
    undisturbed,
)
from llambert_etl.errors import TransientError

# Starts a child in a session of its own, as a step does to outlive its worker, and says that it is ready.
PARENT = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
pathlib.Path("child").write_text(str(child.pid))
pathlib.Path("ready").touch()
time.sleep(600)
"""
STUBBORN = """
import pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("ready").touch()
time.sleep(600)
"""

ServerFactory = Callable[..., Server]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerFactory]:
    made: list[Server] = []

    def make(code: str, name: str = "demo", deadline: float = 30.0, grace: float = 5.0) -> Server:
        folder = tmp_path / name
        argv = [sys.executable, "-u", "-c", code]
        ready = (folder / "ready").exists
        made.append(Server(name, argv, env=os.environ, folder=folder, ready=ready, deadline=deadline, grace=grace))
        return made[-1]

    yield make
    stop_all(made)


def test_a_server_is_awaited_by_its_condition(server: ServerFactory) -> None:
    found = server(PARENT)
    found.start()
    assert found.running


def test_a_stopped_server_leaves_no_process_not_even_one_in_another_session(
    server: ServerFactory, tmp_path: Path
) -> None:
    found = server(PARENT)
    found.start()
    child = int((tmp_path / "demo/child").read_text())
    assert os.getsid(child) != found.pid
    found.stop()
    assert not _alive(child)
    assert processes_under(tmp_path) == []


def test_stopping_twice_or_before_the_start_does_nothing(server: ServerFactory) -> None:
    found = server(PARENT)
    found.stop()
    found.start()
    found.stop()
    found.stop()
    assert not found.running


def test_a_stopped_server_can_be_started_again(server: ServerFactory) -> None:
    found = server(PARENT)
    found.start()
    found.stop()
    found.start()
    assert found.running


def test_a_server_that_ignores_the_request_to_end_is_killed(server: ServerFactory) -> None:
    found = server(STUBBORN, grace=0.2)
    found.start()
    found.stop()
    assert not found.running


def test_a_server_that_ends_early_is_named_with_the_end_of_its_log(server: ServerFactory) -> None:
    found = server("raise SystemExit('the database is damaged')")
    with pytest.raises(TransientError, match=r"(?s)demo ended before it was ready \(exit code 1\).*is damaged"):
        found.start()


def test_a_start_that_a_signal_cuts_off_before_the_number_is_known_leaves_no_process(
    server: ServerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self.pid)
            raise SystemExit(143)

    started: list[int] = []
    found = server(PARENT)
    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(SystemExit):
        found.start()
    assert started
    assert found.processes() == []


def test_a_server_that_is_late_is_stopped(server: ServerFactory, tmp_path: Path) -> None:
    found = server("import time; print('still booting'); time.sleep(600)", deadline=0.5)
    with pytest.raises(TransientError, match="was not ready within"):
        found.start()
    assert processes_under(tmp_path) == []


def test_servers_of_a_supervisor_that_was_killed_are_found_by_their_folder(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib\n"
        "from laptop.process import Server\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "child = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "Server('left', child, env=os.environ, folder=folder, ready=lambda: True).start()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "left")], check=False, timeout=60)
    assert len(processes_under(tmp_path)) == 1
    end_processes(lambda: processes_under(tmp_path), grace=5)
    assert processes_under(tmp_path) == []


def test_a_process_of_another_folder_whose_name_begins_alike_is_not_ours(tmp_path: Path) -> None:
    env = {**os.environ, MARKER: f"{tmp_path}-other/demo"}
    argv = [sys.executable, "-c", "import time; time.sleep(600)"]
    with subprocess.Popen(argv, env=env) as other:
        assert processes_under(tmp_path) == []
        other.kill()


def test_a_record_whose_process_number_was_given_away_finds_nothing(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    argv = [sys.executable, "-c", "import time; time.sleep(600)"]
    with subprocess.Popen(argv, start_new_session=True) as other:
        (tmp_path / "demo/demo.pid").write_text(f"[{other.pid}, {time.time() - 1}]")
        assert processes_under(tmp_path) == []
        other.kill()


def test_term_unwinds_like_an_interrupt() -> None:
    with pytest.raises(SystemExit) as left, interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
    assert left.value.code == 128 + signal.SIGTERM


def test_an_impatient_second_interrupt_does_not_disturb_the_stop() -> None:
    with undisturbed():
        os.kill(os.getpid(), signal.SIGINT)


def _alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
