"""A step as a pod: what the cluster is asked for, and what becomes of the answer."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate
import pytest
from kubernetes.client import ApiClient

from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.orchestration import commands
from llambert_etl.orchestration.kubernetes import PodStep, pod_arguments
from llambert_etl.orchestration.retry import StepCrashedError
from llambert_etl.settings import Kubernetes
from tests.dags.conftest import write_task
from tests.dags.deployed import build, films
from tests.fakes.server import Answer, FakeServer, Request, json_answer

IMAGE = "registry.example/llambert@sha256:" + "0" * 64
DAY = "2026-11-10"
METRICS = ("f1", "precision", "recall", "support", "share", "predicted_share", "brier", "ece")


@pytest.fixture(autouse=True)
def cluster(include: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment on a cluster whose GPU nodes are tainted."""
    monkeypatch.setenv("LLAMBERT_COMPUTE", "kubernetes")
    monkeypatch.setenv("LLAMBERT_KUBERNETES__IMAGE", IMAGE)
    monkeypatch.setenv("LLAMBERT_KUBERNETES__NODE_SELECTOR", '{"pool": "gpu"}')
    toleration = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": "300"}
    monkeypatch.setenv("LLAMBERT_KUBERNETES__TOLERATIONS", json.dumps([toleration]))


def operators() -> dict[str, Any]:
    return {step.task_id: step for kind in ("ingest", "retrain", "label") for step in build(kind).tasks}


def pod_of(step: PodStep) -> dict[str, Any]:
    pod = ApiClient().sanitize_for_serialization(step.build_pod_request_obj(dry_run=True))
    assert isinstance(pod, dict)
    return pod


@pytest.fixture
def pod() -> dict[str, Any]:
    return pod_of(operators()["train"])


@pytest.fixture
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["spec"]["containers"]
    return dict(container)


def test_steps_that_load_a_model_become_pods_and_no_others() -> None:
    kinds = {name: step.operator_name for name, step in operators().items()}
    assert {name for name, kind in kinds.items() if kind == "PodStep"} == {"annotate", "train", "label_shard"}


def test_pod_is_valid_kubernetes(pod: dict[str, Any]) -> None:
    kubernetes_validate.validate(pod, "1.34", strict=True)


def test_pod_runs_the_same_command_as_a_local_process(container: dict[str, Any], monkeypatch: Any) -> None:
    monkeypatch.setenv("LLAMBERT_COMPUTE", "local")
    local = operators()["train"].arguments
    assert [*container["command"], *container["args"]] == ["llambert", *local]


def test_shards_are_mapped_over_the_commands_of_the_plan() -> None:
    shard = operators()["label_shard"]
    assert shard.is_mapped
    assert shard.partial_kwargs["image"] == IMAGE
    assert shard.partial_kwargs["cmds"] == ["llambert"]


def test_pod_runs_without_root_and_without_privileges(pod: dict[str, Any], container: dict[str, Any]) -> None:
    assert pod["spec"]["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not pod["spec"].get("hostNetwork")


def test_pod_gets_no_token_of_the_cluster(pod: dict[str, Any]) -> None:
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["serviceAccountName"] == "llambert-step"


def test_pod_is_limited_to_what_it_requests_with_its_gpu(pod: dict[str, Any], container: dict[str, Any]) -> None:
    wanted = {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"}
    assert container["resources"] == {"requests": wanted, "limits": wanted}
    assert pod["spec"]["nodeSelector"] == {"pool": "gpu"}
    assert pod["spec"]["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    ]


@pytest.mark.parametrize("asks", ["server: gpt", "recorded: {file: replies.csv}"])
def test_an_annotator_that_loads_no_model_gets_a_pod_without_gpu_on_any_node(include: Path, asks: str) -> None:
    write_task(include, "films", annotator=f"method: generate, {asks}")
    found = operators()
    pod, other = pod_of(found["annotate"]), pod_of(found["train"])
    kubernetes_validate.validate(pod, "1.34", strict=True)
    (container,) = pod["spec"]["containers"]
    wanted = {"cpu": "4", "memory": "16Gi"}
    assert container["resources"] == {"requests": wanted, "limits": wanted}
    assert not {"nodeSelector", "tolerations"} & {name for name, value in pod["spec"].items() if value}
    assert (found["annotate"].pool, found["train"].pool) == ("default_pool", "gpu")
    assert "nvidia.com/gpu" in other["spec"]["containers"][0]["resources"]["limits"]


def test_deployment_without_gpus_asks_for_none() -> None:
    resources = pod_arguments(Kubernetes(image=IMAGE, gpus=0))["container_resources"]
    assert resources.limits == {"cpu": "4", "memory": "16Gi"}


def test_image_is_the_deployments_own_by_digest(container: dict[str, Any]) -> None:
    assert container["image"] == IMAGE


def test_pod_writes_only_to_a_bounded_scratch_volume_and_to_shared_memory(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert volumes["scratch"]["emptyDir"] == {"sizeLimit": "50Gi"}
    assert volumes["memory"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}
    writable = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["/tmp", "/dev/shm"]  # noqa: S108


def test_secrets_are_files_and_never_variables(pod: dict[str, Any], container: dict[str, Any]) -> None:
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert volumes["secrets"]["secret"] == {"secretName": "llambert-secrets", "defaultMode": 0o440}
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    assert variables == {
        "LLAMBERT_SECRETS_DIR": "/run/secrets/llambert",
        "LLAMBERT_STATE": "/tmp/state",  # noqa: S108
        "HOME": "/tmp",  # noqa: S108
        "HF_HUB_OFFLINE": "1",
    }
    assert container["envFrom"] == [{"configMapRef": {"name": "llambert-settings"}}]


def test_worker_that_dies_finds_its_pod_again() -> None:
    assert operators()["train"].durable is True


class FakeCluster(FakeServer):
    """As much of a Kubernetes API as one pod needs: it is created, it has ended, it can be read, marked and deleted."""

    def __init__(self, lake: Path) -> None:
        super().__init__()
        self.exit_code, self.message, self.lake = 0, "", lake
        self.facts: dict[str, Any] | None = {}
        self.pods: dict[str, Any] = {}
        self.created: list[Any] = []

    def route(self, request: Request) -> Answer:
        where = urlsplit(request.path)
        name = where.path.rpartition("/")[2]
        match request.method, name:
            case "POST", _:
                return json_answer(self.create(json.loads(request.body)))
            case "PATCH", _:
                return json_answer(next(iter(self.pods.values())))
            case "DELETE", _:
                del self.pods[name]
                return json_answer({"kind": "Status"})
            case _, "log":
                log = f"2026-11-10T00:00:00Z {self.message or 'working'}\n"
                return 200, {"Content-Type": "text/plain"}, log.encode()
            case _, "pods":
                (selector,) = parse_qs(where.query)["labelSelector"]
                return json_answer({"kind": "PodList", "items": self.selected(selector)})
            case _, "events":
                return json_answer({"kind": "EventList", "items": [], "metadata": {"resourceVersion": "1"}})
        return json_answer(self.pods[name])

    def create(self, pod: Any) -> Any:
        ended = {"exitCode": self.exit_code, "message": self.message, "startedAt": None, "finishedAt": None}
        state = {"image": "", "imageID": "", "ready": False, "restartCount": 0}
        phase = "Failed" if self.exit_code else "Succeeded"
        pod["status"] = {
            "phase": phase,
            "containerStatuses": [
                # What a service mesh puts beside every container of a namespace; it stops when it is told to.
                {**state, "name": "a-proxy", "state": {"terminated": {**ended, "exitCode": 0, "message": ""}}},
                {**state, "name": "base", "state": {"terminated": ended}},
            ],
        }
        self.pods[pod["metadata"]["name"]] = pod
        self.created.append(pod)
        if self.facts is not None and not self.exit_code:
            self.leave(pod["spec"]["containers"][0], self.facts)
        return pod

    def leave(self, container: Any, facts: dict[str, Any]) -> None:
        """Do what the command in the pod does at its end."""
        (key,) = (each["value"] for each in container["env"] if each["name"] == "LLAMBERT_HAND_OVER")
        note = self.lake / "_staging" / key
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps({"step": container["args"][0], "facts": facts}))

    def selected(self, selector: str) -> list[Any]:
        wanted = [part.split("=") for part in selector.split(",") if "=" in part and "!" not in part]
        return [
            pod
            for pod in self.pods.values()
            if all(pod["metadata"]["labels"].get(name) == value for name, value in wanted)
        ]


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    with FakeCluster(tmp_path / "lake") as cluster:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": cluster.address}}],
            "users": [{"name": "u", "user": {}}],
        }
        (tmp_path / "kubeconfig").write_text(json.dumps(config))
        connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(tmp_path / "kubeconfig")}}
        monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(connection))
        yield cluster


def test_manifest_comes_back_from_each_pod_without_a_second_container(api: FakeCluster, cli: Any, run_dag: Any) -> None:
    cli.reply(**{"training-due": {"facts": {"due": True}}})
    # More than the 4 KiB of a termination message.
    scores = {f"gold.{name}.label number {number}": 0.123456789 for name in METRICS for number in range(12)}
    api.facts = {"model_version": 3, "metrics": scores}
    assert len(json.dumps(api.facts)) > 4096
    run = run_dag("retrain", DAY)
    assert run.state == "success"
    assert run.xcom("train") == {"step": "train", "facts": api.facts}
    assert run.xcom("train", "_link_MlflowLink").endswith("/versions/3")
    assert [step.split()[0] for step in cli.steps] == ["training-due", "gold", "check", "promote"]
    assert cli.calls[-1][-1] == "--candidate=3"
    annotate, train = api.created
    assert [len(pod["spec"]["containers"]) for pod in (annotate, train)] == [1, 1]
    assert annotate["spec"]["containers"][0]["args"][:5] == commands.step("annotate", films())[:5]
    assert not api.pods, "a pod that has ended was not deleted"


def test_pod_that_has_left_no_manifest_fails_and_nothing_goes_on_without_it(
    api: FakeCluster, cli: Any, run_dag: Any
) -> None:
    cli.reply(**{"training-due": {"facts": {"due": True}}})
    api.facts = None
    run = run_dag("retrain", DAY, run_conf={"strategy": "gold"})
    assert (run.states["train"], run.states["promote"]) == ("failed", "upstream_failed")
    assert "the pod ended well, but left no manifest there" in run.said


@pytest.mark.parametrize(
    ("exit_code", "error"), [(65, DataError), (75, TransientError), (78, ConfigError), (137, StepCrashedError)]
)
def test_exit_code_of_a_pod_becomes_the_same_error_as_that_of_a_process(
    api: FakeCluster, exit_code: int, error: type[Exception]
) -> None:
    api.exit_code, api.message = exit_code, "gate: 80 % of the replies were not parsed"
    step = build("retrain").get_task("train")
    step.arguments = ["train", "--partition", DAY]
    instance = SimpleNamespace(
        dag_id="films__retrain", task_id="train", map_index=-1, try_number=1, xcom_push=lambda **_: None
    )
    with pytest.raises(error, match="gate: 80 % of the replies"):
        step.execute({"ti": instance, "run_id": "r", "dag": step.dag})


def test_pod_is_not_even_created_for_a_run_without_a_partition_key(api: FakeCluster) -> None:
    step = build("retrain").get_task("train")
    step.arguments = ["train", "--partition", "None"]
    with pytest.raises(ConfigError, match="no partition key"):
        step.execute({})
    assert not api.created
