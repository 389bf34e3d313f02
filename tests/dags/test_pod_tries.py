"""A try of a step as a pod: whatever is killed or told to end, the next one goes on with the same pod."""

import json
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llambert_etl.errors import TransientError
from llambert_etl.orchestration.kubernetes import STORE_KEY, PodStep
from tests.dags.pods import MANIFEST, Killed, Task
from tests.dags.stores import Store
from tests.fakes.cluster import NOW, FakeCluster, done, running
from tests.fakes.server import Request


def at_each_request(api: FakeCluster, act: Callable[[Request], object]) -> Iterator[None]:
    """Yield once for each request that a try makes: `act` is called when it has come."""
    at = 0
    while True:
        count = iter(range(1_000_000))
        happened = []

        def before(request: Request, at: int = at, count: Any = count, happened: list[Any] = happened) -> None:
            if next(count) == at:
                happened.append(request)
                api.before = lambda request: None
                act(request)

        api.before = before
        api.created.clear()
        yield
        if not happened:
            assert at > 5, "a try makes more requests than that"
            return
        at += 1


def test_a_try_whose_process_is_killed_at_any_request_is_gone_on_with(
    api: FakeCluster, killer: Callable[[], None]
) -> None:
    for _ in at_each_request(api, lambda request: killer()):
        task = Task()
        try:
            task.attempt()
        except Killed:
            deleted = any(request.method == "DELETE" for request in api.requests[-1:])
            task.attempt()
            assert len(api.created) == 1 or deleted
        assert task.pushed["return_value"] == MANIFEST
        assert not api.pods


def test_a_try_that_is_asked_to_stop_at_any_request_is_no_success_without_a_manifest(api: FakeCluster) -> None:
    step: list[PodStep] = []

    def stop(request: Request) -> None:
        asked.append(request)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)

    asked: list[Request] = []
    before = signal.signal(signal.SIGUSR2, lambda *_: step[0].on_kill())
    try:
        for _ in at_each_request(api, stop):
            task = Task()
            step[:] = [task.step()]
            try:
                task.attempt(step[0])
            except TransientError:
                assert not task.pushed
                assert not api.pods, "an orphan"
                task.attempt()
            assert task.pushed["return_value"] == MANIFEST
            assert not api.pods
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_try_that_is_asked_to_stop_while_its_pod_is_made_leaves_none(api: FakeCluster, task: Task) -> None:
    step = task.step(deferrable=True)

    def stop(request: Request) -> None:
        api.before = lambda request: None
        step.on_kill()

    api.before = stop
    with pytest.raises(TransientError, match="its task was asked to stop"):
        task.attempt(step)
    assert len(api.created) == 1
    assert not api.pods


def test_a_try_that_airflow_has_given_up_leaves_its_pod_to_the_next(api: FakeCluster, task: Task) -> None:
    api.life, step = [running(), running(), done(0, json.dumps(MANIFEST))], task.step()
    kept = Store(task.store)

    def give_up(request: Request) -> None:
        if request.method == "GET" and step._store is not None:
            api.before = lambda request: None
            kept.update(task.store)
            task.store.clear()  # by its old id a try finds nothing in the store
            step.on_kill()

    api.before = give_up
    with pytest.raises(TransientError, match="the pod runs on for the next one"):
        task.attempt(step)
    assert len(api.pods) == 1
    task.store.update(kept)
    task.attempt()
    assert task.pushed["return_value"] == MANIFEST
    assert len(api.created) == 1
    assert not api.pods


def left_by_a_killed_try(api: FakeCluster, task: Task, killer: Callable[[], None]) -> str:
    """Return the name of the pod that a try has started before its process was killed."""

    def kill(request: Request) -> None:
        if request.method == "GET":
            api.before = lambda request: None
            killer()

    api.before = kill
    with pytest.raises(Killed):
        task.attempt()
    (name,) = api.pods
    return str(name)


def test_pod_that_has_ended_while_nobody_watched_gives_its_result(
    api: FakeCluster, task: Task, killer: Callable[[], None]
) -> None:
    api.life = [done(message=json.dumps(MANIFEST))]
    left_by_a_killed_try(api, task, killer)
    task.attempt()
    assert task.pushed["return_value"] == MANIFEST
    assert len(api.created) == 1


@pytest.mark.parametrize("another", [{"uid": "another"}, {"labels": {}}])
def test_foreign_pod_of_the_same_name_is_left_alone(
    api: FakeCluster, task: Task, killer: Callable[[], None], another: dict[str, Any]
) -> None:
    name = left_by_a_killed_try(api, task, killer)
    if "labels" in another:  # as where the process died before it heard of the uid
        del task.store[STORE_KEY]["uid"]
    api.pods[name]["metadata"] |= another
    task.attempt()
    assert list(api.pods) == [name]
    assert len(api.created) == 2


def test_cleared_task_starts_again_and_deletes_the_pod_of_before(
    api: FakeCluster, task: Task, killer: Callable[[], None]
) -> None:
    left_by_a_killed_try(api, task, killer)
    task.max_tries += 1  # as Airflow does
    task.attempt()
    assert len(api.created) == 2
    assert not api.pods


def test_pod_that_is_being_deleted_is_not_gone_on_with(
    api: FakeCluster, task: Task, killer: Callable[[], None]
) -> None:
    ended, api.life = api.life, [running(), running(), running(), *api.life]
    name = left_by_a_killed_try(api, task, killer)
    api.pods[name]["metadata"]["deletionTimestamp"], api.life = NOW, ended
    task.attempt()
    assert len(api.created) == 2
