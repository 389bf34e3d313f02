"""What becomes of a step that runs as a pod, whatever befalls the pod, its cluster or the process that waits for it."""

import datetime
import json
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
import tenacity
import yaml
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk.exceptions import TaskDeferred

from laptop.stack import REPOSITORY
from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.orchestration import commands
from llambert_etl.orchestration.kubernetes import STORE_KEY, PodStep
from llambert_etl.orchestration.retry import StepCrashedError
from tests.dags.deployed import build, films
from tests.dags.test_local import Store
from tests.fakes.cluster import NOW, FakeCluster, done, pending, running
from tests.fakes.server import Request

DAY = "2026-11-10"
MANIFEST = {"step": "train", "facts": {"model_version": 3}}
METRICS = ("f1", "precision", "recall", "support", "share", "predicted_share", "brier", "ece")
# What a manifest has of twelve labels is more than a termination message can be.
SCORES = {f"gold.{name}.label number {number}": 0.123456789 for name in METRICS for number in range(12)}
TOKEN = "canary-in-the-kubeconfig"  # noqa: S105


@pytest.fixture
def api(tmp_path: Path, include: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    with FakeCluster() as cluster:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": cluster.address}}],
            "users": [{"name": "u", "user": {"token": TOKEN}}],
        }
        connection = {"conn_type": "kubernetes", "extra": {"kube_config": json.dumps(config)}}
        monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(connection))
        monkeypatch.setenv("LLAMBERT_COMPUTE", "kubernetes")
        monkeypatch.setenv("LLAMBERT_KUBERNETES__IMAGE", "registry.example/llambert@sha256:" + "0" * 64)
        # The provider's own pauses before it asks for a log again.
        monkeypatch.setattr(KubernetesPodOperator._write_logs.retry, "wait", tenacity.wait_none())
        cluster.life = [running(), done(message=json.dumps(MANIFEST))]
        yield cluster


class Task:
    """One task instance: what lasts between its tries."""

    def __init__(self) -> None:
        self.store, self.pushed = Store(), dict[str, Any]()
        self.max_tries, self.tries = 2, 0
        self.started = datetime.datetime.now(datetime.UTC)

    def step(self, *, deferrable: bool = False) -> PodStep:
        step = build("retrain").get_task("train")
        assert isinstance(step, PodStep)
        step.arguments = ["train", "--partition", DAY]
        step.deferrable, step.hold_seconds = deferrable, 0
        step.startup_check_interval_seconds = 0
        step.schedule_timeout_seconds = step.startup_timeout_seconds = 1
        return step

    def context(self, step: PodStep) -> Any:
        instance = SimpleNamespace(
            dag_id="films__retrain",
            task_id="train",
            map_index=-1,
            try_number=self.tries,
            max_tries=self.max_tries,
            start_date=self.started,
            xcom_push=lambda key, value: self.pushed.update({key: value}),
        )
        return {"ti": instance, "run_id": "r", "dag": step.dag, "task_state_store": self.store}

    def attempt(self, step: PodStep | None = None) -> None:
        """Run the next try to its end."""
        self.tries += 1
        step = step or self.step()
        step.execute(self.context(step))


@pytest.fixture
def task(api: FakeCluster) -> Task:
    return Task()


def test_manifest_comes_back_and_nothing_is_left(api: FakeCluster, task: Task) -> None:
    task.attempt()
    assert task.pushed["return_value"] == MANIFEST
    assert not api.pods
    assert not task.store


@pytest.mark.parametrize(
    ("exit_code", "error"),
    [(65, DataError), (75, TransientError), (78, ConfigError), (1, StepCrashedError), (137, StepCrashedError)],
)
def test_exit_code_of_a_pod_becomes_the_same_error_as_that_of_a_process(
    api: FakeCluster, task: Task, exit_code: int, error: type[Exception]
) -> None:
    api.life = [running(), done(exit_code, "gate: 80 % of the replies were not parsed")]
    with pytest.raises(error, match="gate: 80 % of the replies"):
        task.attempt()
    assert not api.pods
    assert not task.store
    assert not task.pushed


ENDS: dict[str, tuple[list[dict[str, Any] | None], type[Exception], str]] = {
    "memory": (
        [running(), done(137, "Killed", "OOMKilled")],
        ConfigError,
        "needed more memory than its limit of 16Gi; raise LLAMBERT_KUBERNETES__MEMORY",
    ),
    "memory of a child": ([done(1, "a child died", "OOMKilled")], ConfigError, "more memory than its limit of 16Gi"),
    "no such image": (
        [pending(reason="ErrImagePull", message="manifest unknown")],
        ConfigError,
        r"no image 'registry.example/llambert@sha256:0+': ErrImagePull: manifest unknown; push it",
    ),
    "registry away": (
        [pending(reason="ErrImagePull", message="rpc error: code = Unknown desc = dial tcp: connection refused")],
        TransientError,
        "connection refused; push it, or mend LLAMBERT_KUBERNETES__IMAGE",
    ),
    "no free GPU": (
        [pending(scheduled=False)],
        TransientError,
        "no node had room for it: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.; "
        "raise LLAMBERT_KUBERNETES__SCHEDULE_SECONDS",
    ),
    "no config map": (
        [pending(reason="CreateContainerConfigError", message='configmap "llambert-settings" not found')],
        TransientError,
        'did not start on its node: CreateContainerConfigError: configmap "llambert-settings" not found; '
        "raise LLAMBERT_KUBERNETES__STARTUP_SECONDS",
    ),
    "too long": (
        [running(), done(143, "asked to stop", reason="Error") | {"phase": "Failed", "reason": "DeadlineExceeded"}],
        TransientError,
        "ran longer than 86400 s; raise LLAMBERT_KUBERNETES__DEADLINE_SECONDS",
    ),
    "gone": ([running(), None], TransientError, "is not there any more; it was deleted from outside, or preempted"),
    "evicted": (
        [{"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}],
        TransientError,
        "Evicted: The node was low on resource: memory., before its step was done",
    ),
    "evicted in its work": (
        [running(), done(0, "") | {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."}],
        TransientError,
        "The node was low on memory., before its step was done",
    ),
    "scratch full": (
        [{"phase": "Failed", "reason": "Evicted", "message": 'Usage of EmptyDir volume "scratch" exceeds the limit'}],
        ConfigError,
        "exceeds the limit; raise LLAMBERT_KUBERNETES__SCRATCH",
    ),
    "node shut down": (
        [{"phase": "Failed", "reason": "NodeShutdown", "message": "Node is shutting down"}],
        TransientError,
        "NodeShutdown: Node is shutting down, before its step was done",
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_befell_a_pod_is_told_with_the_setting_to_change_and_no_pod_is_left(
    api: FakeCluster, task: Task, end: str
) -> None:
    api.life, error, words = ENDS[end]
    with pytest.raises(error, match=words.replace("(", r"\(")):
        task.attempt()
    assert not api.pods
    assert not task.pushed


def test_volume_that_cannot_be_mounted_is_told_by_the_events(api: FakeCluster, task: Task) -> None:
    api.life, api.warnings = [pending()], ['secret "llambert-secrets" not found']
    with pytest.raises(TransientError, match='did not start on its node: secret "llambert-secrets" not found'):
        task.attempt()


# What may happen to the process at each of its requests.


class Killed(BaseException):
    """As SIGKILL ends a process: nothing of it runs any more."""


@pytest.fixture
def killer() -> Iterator[Callable[[], None]]:
    """Kills the try in the main thread, from the thread of a server."""

    def die(*_: object) -> None:
        raise Killed

    before = signal.signal(signal.SIGUSR1, die)
    yield lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


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


def test_trigger_that_waits_holds_no_secret_of_the_connection(api: FakeCluster, task: Task) -> None:
    api.life = [running()]
    with pytest.raises(TaskDeferred) as deferred:
        task.attempt(task.step(deferrable=True))
    row = repr(deferred.value.trigger.serialize())
    assert api.created[0]["metadata"]["name"] in row
    assert TOKEN not in row


def deferred(api: FakeCluster, task: Task, life: list[dict[str, Any] | None], status: str) -> None:
    """Start a pod, and go on when the triggerer says so."""
    api.life = [running(), *life]
    with pytest.raises(TaskDeferred):
        task.attempt(task.step(deferrable=True))
    step = task.step(deferrable=True)
    step.finish(task.context(step), {"status": status, "name": api.created[0]["metadata"]["name"]})


def test_pod_that_ends_within_a_moment_is_not_deferred(api: FakeCluster, task: Task) -> None:
    step = task.step(deferrable=True)
    step.hold_seconds = 60
    task.attempt(step)
    assert task.pushed["return_value"] == MANIFEST


def test_pod_that_runs_on_though_the_triggerer_lost_it_is_waited_for(api: FakeCluster, task: Task) -> None:
    deferred(api, task, [running(), done(message=json.dumps(MANIFEST))], "error")
    assert task.pushed["return_value"] == MANIFEST


@pytest.mark.parametrize("status", ["success", "failed", "error", "timeout"])
def test_pod_that_is_gone_when_the_triggerer_has_waited_is_tried_again(
    api: FakeCluster, task: Task, status: str
) -> None:
    with pytest.raises(TransientError, match="is not there any more"):
        deferred(api, task, [None], status)
    assert not task.pushed


def test_pod_that_got_its_node_when_the_triggerer_had_given_up_is_waited_for_again(
    api: FakeCluster, task: Task
) -> None:
    with pytest.raises(TaskDeferred):
        deferred(api, task, [running()], "timeout")
    assert api.pods


def test_pod_is_deleted_at_the_end_of_the_time_that_its_task_may_take(api: FakeCluster, task: Task) -> None:
    task.started -= datetime.timedelta(days=2)
    with pytest.raises(TransientError, match="was not done in the time that its task may take"):
        deferred(api, task, [running()], "timeout")
    assert not api.pods


def test_manifest_comes_back_from_each_pod_without_a_second_container(api: FakeCluster, cli: Any, run_dag: Any) -> None:
    cli.reply(**{"training-due": {"facts": {"due": True}}})
    run = run_dag("retrain", DAY)
    assert run.state == "success"
    assert run.xcom("train") == {"step": "train", "facts": {"model_version": 3}}
    assert run.xcom("train", "_link_MlflowLink").endswith("/versions/3")
    assert [step.split()[0] for step in cli.steps] == ["training-due", "gold", "check", "promote"]
    assert cli.calls[-1][-1] == "--candidate=3"
    annotate, train = api.created
    assert [len(pod["spec"]["containers"]) for pod in (annotate, train)] == [1, 1]
    assert annotate["spec"]["containers"][0]["args"][:5] == commands.step("annotate", films())[:5]
    assert not api.pods, "a pod that has ended was not deleted"


def test_manifest_that_is_longer_than_last_words_can_be_comes_back_by_a_note_in_the_lake(
    api: FakeCluster, task: Task, tmp_path: Path
) -> None:
    manifest = {"step": "train", "facts": {"model_version": 3, "metrics": SCORES}}

    def leave(pod: Any) -> None:
        (key,) = (each["value"] for each in pod["spec"]["containers"][0]["env"] if each["name"] == "LLAMBERT_HAND_OVER")
        note = tmp_path / "lake" / "_staging" / key
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(manifest))

    api.leave, api.life = leave, [done(message=json.dumps(manifest)[:4096])]
    step = task.step()
    task.attempt(step)
    assert task.pushed["return_value"] == manifest
    assert step.made.model_version == 3


@pytest.mark.parametrize("message", ["", json.dumps({"step": "train", "facts": {"metrics": SCORES}})[:4096]])
def test_pod_that_has_left_no_whole_manifest_fails_its_task(api: FakeCluster, task: Task, message: str) -> None:
    api.life = [done(message=message)]
    with pytest.raises(ConfigError, match="has left no manifest, nor is one at .*/lake/_staging/_manifests/"):
        task.attempt()
    assert not task.pushed


def test_role_of_the_workers_allows_what_a_step_asks_of_the_cluster_and_no_more(api: FakeCluster, task: Task) -> None:
    documents = list(yaml.safe_load_all((REPOSITORY / "docker/kubernetes/access.yaml").read_text()))
    (role,) = [each for each in documents if (each["kind"], each["metadata"]["name"]) == ("Role", "step-launcher")]
    rules = role["rules"]
    allowed = {(verb, resource) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    for api.life in ([pending()], [running(), done(75, "busy")]):
        with pytest.raises(TransientError):
            task.attempt()
    verbs = {"POST": "create", "GET": "get", "DELETE": "delete"}
    asked = set()
    for request in api.requests:
        resource, *more = urlsplit(request.path).path.removeprefix("/api/v1/namespaces/llambert/").split("/")
        verb = verbs[request.method] if more or request.method != "GET" else "list"
        asked.add((verb, "/".join([resource, *more[1:]])))
    assert asked == allowed


def test_pod_is_not_even_created_for_a_run_without_a_partition_key(api: FakeCluster, task: Task) -> None:
    step = task.step()
    step.arguments = ["train", "--partition", "None"]
    with pytest.raises(ConfigError, match="no partition key"):
        task.attempt(step)
    assert not api.created
