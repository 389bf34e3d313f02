"""Runs a step as a pod: the argv of the local process, and what the deployment's settings grant it.

A task file has no say in any of this: whoever writes YAML must not choose an image, an account or a resource.
"""

import json
from collections.abc import Sequence
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.container import get_container_termination_message
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException
from kubernetes.client import models as k8s  # type: ignore[import-untyped]
from pydantic import JsonValue

from llambert_etl.config import fingerprint
from llambert_etl.errors import ConfigError
from llambert_etl.facts import Linked
from llambert_etl.orchestration.commands import EXECUTABLE, partition_of, rendered
from llambert_etl.orchestration.links import LINKS
from llambert_etl.orchestration.retry import raise_for
from llambert_etl.settings import Kubernetes, load_settings

SECRETS_PATH = "/run/secrets/llambert"
SCRATCH_PATH = "/tmp"  # noqa: S108 - a volume of the pod, the only place that it can write files to
SHARED_MEMORY_PATH = "/dev/shm"  # noqa: S108 - where the processes of a training on several GPUs meet

_USER = 10001
_GRACE_SECONDS = 60
_SHARED_MEMORY = "1Gi"


class PodStep(KubernetesPodOperator):
    """Run `llambert *arguments` in a pod and return its manifest.

    The step leaves its manifest in a note in the lake, for it may be longer than a container's termination message can
    be (4 KiB), which has the reason where it failed. That needs no sidecar and no right to run commands in pods.
    """

    operator_extra_links = LINKS

    def __init__(self, *, task_name: str = "", report: str = "", mlflow_uri: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.task_name = task_name
        self.report = report
        self.mlflow_uri = mlflow_uri
        self.partition = ""
        self.made = Linked()

    def execute(self, context: Context) -> None:
        self.arguments = rendered(self.arguments)
        self.partition = partition_of(self.arguments)
        # Named by the arguments, so that a retry finds it which goes on with the pod of the try before.
        note = f"_manifests/{fingerprint(self.arguments)}.json"
        self.env_vars = {**_environment(), "LLAMBERT_HAND_OVER": note}
        try:
            super().execute(context)
        except AirflowException as error:
            exit_code = _exit_code(self.remote_pod, self.base_container_name)
            if exit_code:
                raise_for(exit_code, self._message() or str(error))
            raise
        manifest = _handed_over(f"_staging/{note}")
        self.made = Linked.of(manifest)
        # Asking the operator to push would add the sidecar, so the manifest is pushed by hand.
        context["ti"].xcom_push(key="return_value", value=manifest)

    def _message(self) -> str:
        return str(get_container_termination_message(self.remote_pod, self.base_container_name) or "").strip()


def _handed_over(key: str) -> dict[str, JsonValue]:
    """Read a pod's manifest. Raise ConfigError where it has left none: whatever needs it must not go on without."""
    from llambert_etl.store.storage import Storage  # which brings polars, for whose faults no Dag has to wait

    lake = Storage.from_settings(load_settings())
    found = lake.read(key)
    if found is None:
        raise ConfigError(
            f"{lake.uri}/{key}: the pod ended well, but left no manifest there: give its image and Airflow the same "
            "version and the same LLAMBERT_LAKE, then clear the step"
        )
    manifest: dict[str, JsonValue] = json.loads(found)
    return manifest


def pod_arguments(settings: Kubernetes) -> dict[str, Any]:
    """Return what KubernetesPodOperator needs besides the step's own arguments."""
    return {
        "image": settings.image,
        "namespace": settings.namespace,
        "cmds": [EXECUTABLE],
        "service_account_name": settings.service_account,
        "automount_service_account_token": False,
        "security_context": _pod_security(),
        "container_security_context": _container_security(),
        "container_resources": _resources(settings),
        "node_selector": settings.node_selector,
        "tolerations": [k8s.V1Toleration(**_snake_case(toleration)) for toleration in settings.tolerations],
        "volumes": _volumes(settings),
        "volume_mounts": [
            k8s.V1VolumeMount(name="scratch", mount_path=SCRATCH_PATH),
            k8s.V1VolumeMount(name="memory", mount_path=SHARED_MEMORY_PATH),
            k8s.V1VolumeMount(name="secrets", mount_path=SECRETS_PATH, read_only=True),
        ],
        "env_from": [k8s.V1EnvFromSource(config_map_ref=k8s.V1ConfigMapEnvSource(name=settings.config_map))],
        "env_vars": _environment(),
        "termination_message_policy": "FallbackToLogsOnError",
        "termination_grace_period": _GRACE_SECONDS,
        "startup_timeout_seconds": 900,  # a node with a GPU may have to be started, and the image be pulled
        "do_xcom_push": False,
        "deferrable": False,
        "log_pod_spec_on_failure": False,
        "log_events_on_failure": True,
    }


def _environment() -> dict[str, str]:
    return {
        "LLAMBERT_SECRETS_DIR": SECRETS_PATH,
        "LLAMBERT_STATE": f"{SCRATCH_PATH}/state",
        "HOME": SCRATCH_PATH,
        "HF_HUB_OFFLINE": "1",
    }


def _volumes(settings: Kubernetes) -> list[k8s.V1Volume]:
    return [
        k8s.V1Volume(name="scratch", empty_dir=k8s.V1EmptyDirVolumeSource(size_limit=settings.scratch)),
        # NCCL wants more than the 64 MiB that a container has by default. What lies there counts as the pod's memory.
        k8s.V1Volume(name="memory", empty_dir=k8s.V1EmptyDirVolumeSource(medium="Memory", size_limit=_SHARED_MEMORY)),
        k8s.V1Volume(name="secrets", secret=k8s.V1SecretVolumeSource(secret_name=settings.secret, default_mode=0o440)),
    ]


def _resources(settings: Kubernetes) -> k8s.V1ResourceRequirements:
    amounts = {"cpu": settings.cpu, "memory": settings.memory}
    if settings.gpus:
        amounts[settings.gpu_resource] = str(settings.gpus)
    return k8s.V1ResourceRequirements(requests=dict(amounts), limits=dict(amounts))


def _pod_security() -> k8s.V1PodSecurityContext:
    return k8s.V1PodSecurityContext(
        run_as_non_root=True,
        run_as_user=_USER,
        run_as_group=_USER,
        fs_group=_USER,
        seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
    )


def _container_security() -> k8s.V1SecurityContext:
    return k8s.V1SecurityContext(
        allow_privilege_escalation=False,
        privileged=False,
        read_only_root_filesystem=True,
        capabilities=k8s.V1Capabilities(drop=["ALL"]),
    )


def _snake_case(toleration: dict[str, str]) -> dict[str, object]:
    """Accept a toleration as Kubernetes spells it; only its seconds are a number."""
    fields: dict[str, object] = {name: value for name, value in toleration.items() if name != "tolerationSeconds"}
    if "tolerationSeconds" in toleration:
        fields["toleration_seconds"] = int(toleration["tolerationSeconds"])
    return fields


def _exit_code(pod: k8s.V1Pod | None, container: str) -> int | None:
    """Return the exit code of the step's container, whatever a cluster has put beside it; None where it never ended."""
    statuses: Sequence[k8s.V1ContainerStatus] = (pod.status.container_statuses if pod and pod.status else None) or []
    ended = [each.state.terminated for each in statuses if each.name == container and each.state]
    return ended[0].exit_code if ended and ended[0] else None
