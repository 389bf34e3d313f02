"""A local step that its try had to leave: the next try goes on with it, or it is ended."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.sdk.execution_time.comms import ErrorResponse

from llambert_etl.errors import TransientError
from llambert_etl.orchestration.local import LocalStep
from llambert_etl.orchestration.process import StepProcess
from llambert_etl.orchestration.retry import StepCrashedError
from tests.dags.stores import Store, stored, wait_for

ENVIRONMENT = dict(os.environ)


class GivenUp(Store):
    """What a try finds whose scheduler has died: to Airflow the task has another id by now."""

    def get(self, key: str, default: Any = None) -> Any:
        return default


class Silent(Store):
    """The store of an Airflow whose database is away."""

    def get(self, key: str, default: Any = None) -> Any:
        raise AirflowRuntimeError(ErrorResponse())


@pytest.fixture
def told_to_end(slow_cli: Path) -> Iterator[Callable[[LocalStep, Store], None]]:
    """Execute a step, and tell it to end as Airflow does, by a signal while it is followed."""

    def execute(operator: LocalStep, store: Store) -> None:
        asked: list[str] = []  # nothing at first, as of a task that was never tried
        store_get, store.get = store.get, lambda key, default=None: asked.append(key)  # type: ignore[method-assign]

        def tell(*_: object) -> None:
            store.get = store_get  # type: ignore[method-assign]
            operator.on_kill()

        def wait() -> None:
            wait_for((slow_cli / "starts").exists)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

        signal.signal(signal.SIGUSR1, tell)
        waiter = threading.Thread(target=wait)
        waiter.start()
        try:
            operator.execute({"task_state_store": store})
        finally:
            waiter.join()

    before = signal.getsignal(signal.SIGUSR1)
    yield execute
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("store", [GivenUp(), Silent()], ids=["given up", "no answer"])
def test_a_try_that_airflow_has_given_up_leaves_its_step_to_the_next_try(
    store: Store, told_to_end: Callable[[LocalStep, Store], None], slow_cli: Path, step: Callable[..., LocalStep]
) -> None:
    with pytest.raises(TransientError, match="runs on for the next one"):
        told_to_end(step(), store)
    (slow_cli / "go").touch()
    kept = Store(store)
    assert step().execute({"task_state_store": kept})["step"] == "ingest"
    assert (slow_cli / "starts").read_text() == "started\n"
    assert not kept


def left(killed_worker: Path, patience: int) -> psutil.Process:
    """Leave a step that its worker has started, and return what watches over it."""
    process = StepProcess(killed_worker)
    process.take()
    before = set(psutil.Process().children())
    process.leave(patience, grace=1)
    (watch,) = set(psutil.Process().children()) - before
    return watch


@pytest.mark.parametrize("deaf", [False, True], ids=["ends when asked", "is deaf"])
def test_a_step_that_was_left_and_that_nobody_takes_is_ended(killed_worker: Path, slow_cli: Path, deaf: bool) -> None:
    if deaf:
        os.killpg(int((killed_worker / "pid").read_text()), signal.SIGKILL)
        wait_for(lambda: not StepProcess(killed_worker).running)
        StepProcess(killed_worker).start(["/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"], ENVIRONMENT)
    left(killed_worker, patience=1)
    wait_for(lambda: not StepProcess(killed_worker).running)


def test_a_step_that_was_left_is_not_ended_when_the_next_try_has_taken_it(
    killed_worker: Path, slow_cli: Path, step: Callable[..., LocalStep]
) -> None:
    watch, done = left(killed_worker, patience=5), []
    again = threading.Thread(target=lambda: done.append(step().execute({"task_state_store": stored(killed_worker)})))
    again.start()
    wait_for(lambda: watch.status() == psutil.STATUS_ZOMBIE)
    assert StepProcess(killed_worker).running
    (slow_cli / "go").touch()
    again.join()
    assert done[0]["step"] == "ingest"
    assert (slow_cli / "starts").read_text() == "started\n"


def test_a_try_that_a_person_ends_takes_its_step_along(
    told_to_end: Callable[[LocalStep, Store], None], step: Callable[..., LocalStep]
) -> None:
    with pytest.raises(StepCrashedError):
        told_to_end(step(), Store())
