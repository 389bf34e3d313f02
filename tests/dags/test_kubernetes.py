"""A step as a pod: what the cluster is asked for."""

import datetime
import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from kubernetes.client import ApiClient

from llambert_etl.config.pods import Kubernetes
from llambert_etl.errors import ConfigError
from llambert_etl.orchestration.kubernetes import PodStep
from llambert_etl.orchestration.pod_spec import pod_arguments
from llambert_etl.settings import load_settings
from tests.dags.conftest import write_task
from tests.dags.deployed import build

IMAGE = "registry.example/llambert@sha256:" + "0" * 64


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
    resources = pod_arguments(Kubernetes(image=IMAGE, gpus=0), "train")["container_resources"]
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
        "OMP_NUM_THREADS": "4",
    }
    assert container["envFrom"] == [{"configMapRef": {"name": "llambert-settings"}}]


def test_cluster_ends_a_pod_that_airflow_has_forgotten(pod: dict[str, Any]) -> None:
    assert pod["spec"]["activeDeadlineSeconds"] == 86_400


def test_task_may_take_as_long_as_its_pod_may_wait_and_run() -> None:
    assert operators()["train"].execution_timeout == datetime.timedelta(seconds=3600 + 900 + 86_400)


def test_steps_get_what_the_deployment_says_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {
        "annotate": {
            "gpus": 4,
            "memory": "200Gi",
            "shared_memory": "8Gi",
            "priority_class": "nightly",
            "service_account": "reads-documents",
            "secret": "only-annotates",
            "state_claim": "models",
            "node_selector": {"pool": "a100"},
            "deadline_seconds": 7200,
        },
        "label": {"deferrable": False, "pull_secrets": ["registry"], "schedule_seconds": 60},
    }
    monkeypatch.setenv("LLAMBERT_KUBERNETES__STEPS", json.dumps(steps))
    found = operators()
    annotate, train = pod_of(found["annotate"]), pod_of(found["train"])
    kubernetes_validate.validate(annotate, "1.34", strict=True)
    (container,) = annotate["spec"]["containers"]
    assert container["resources"]["limits"] == {"cpu": "4", "memory": "200Gi", "nvidia.com/gpu": "4"}
    volumes = {volume["name"]: volume for volume in annotate["spec"]["volumes"]}
    assert volumes["memory"]["emptyDir"]["sizeLimit"] == "8Gi"
    assert volumes["secrets"]["secret"]["secretName"] == "only-annotates"
    assert volumes["state"]["persistentVolumeClaim"] == {"claimName": "models"}
    assert {"name": "state", "mountPath": "/var/lib/llambert"} in container["volumeMounts"]
    assert {"name": "LLAMBERT_STATE", "value": "/var/lib/llambert"} in container["env"]
    said = {name: annotate["spec"][name] for name in ("priorityClassName", "serviceAccountName", "nodeSelector")}
    assert said == {
        "priorityClassName": "nightly",
        "serviceAccountName": "reads-documents",
        "nodeSelector": {"pool": "a100"},
    }
    assert annotate["spec"]["activeDeadlineSeconds"] == 7200
    assert train["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    label = found["label_shard"].partial_kwargs
    assert (label["deferrable"], label["schedule_timeout_seconds"]) == (False, 60)
    assert [secret.name for secret in label["image_pull_secrets"]] == ["registry"]


@pytest.mark.parametrize(("processors", "threads"), [("16", "16"), ("2500m", "2"), ("500m", "1")])
def test_a_step_computes_in_as_many_threads_as_it_has_processors(
    processors: str, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMBERT_KUBERNETES__STEPS", json.dumps({"train": {"cpu": processors}}))
    (container,) = pod_of(operators()["train"])["spec"]["containers"]
    assert {"name": "OMP_NUM_THREADS", "value": threads} in container["env"]


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ({"annotate": {"gpus": -1}}, "annotate.gpus: must be 0 or more"),
        ({"train": {"memory": "much"}}, "train.memory: must be of the form"),
        ({"label": {"image": "mine"}}, "label.image: Extra inputs are not permitted"),
        ({"ingest": {"gpus": 1}}, "INGEST"),
    ],
)
def test_what_a_step_gets_is_checked_when_settings_are_read(
    steps: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMBERT_KUBERNETES__STEPS", json.dumps(steps))
    with pytest.raises(ConfigError, match=words):
        load_settings()
