"""What becomes of a step that runs as a pod, whatever befalls the pod or its cluster."""

import asyncio
import datetime
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.sdk._shared.module_loading import import_string
from airflow.sdk.exceptions import TaskDeferred
from airflow.triggers.base import TriggerEvent

from laptop.stack import REPOSITORY
from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.orchestration import commands
from llambert_etl.orchestration.retry import StepCrashedError
from tests.dags.deployed import films
from tests.dags.pods import DAY, MANIFEST, SCORES, TOKEN, Task
from tests.fakes.cluster import FakeCluster, done, pending, running


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


def test_trigger_that_waits_holds_no_secret_of_the_connection(api: FakeCluster, task: Task) -> None:
    api.life = [running()]
    with pytest.raises(TaskDeferred) as deferred:
        task.attempt(task.step(deferrable=True))
    row = repr(deferred.value.trigger.serialize())
    assert api.created[0]["metadata"]["name"] in row
    assert TOKEN not in row


def test_a_task_does_not_go_on_before_airflow_has_heard_that_it_waits(
    api: FakeCluster, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []

    async def sleep(seconds: float) -> None:
        seen.append(seconds)

    async def looked(trigger: KubernetesPodTrigger) -> AsyncIterator[TriggerEvent]:
        seen.append(trigger.pod_name)
        yield TriggerEvent(None)

    api.life = [running()]
    with pytest.raises(TaskDeferred) as deferred:
        task.attempt(task.step(deferrable=True))
    path, arguments = deferred.value.trigger.serialize()
    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(KubernetesPodTrigger, "run", looked)
    asyncio.run(anext(import_string(path)(**arguments).run()))
    assert seen == [15.0, api.created[0]["metadata"]["name"]]


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
    api.life = [running(), done(message=json.dumps(MANIFEST))]
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
