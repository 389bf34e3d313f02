"""What the cluster is asked for: the argv of the local process, and what the deployment's settings grant it.

A task file has no say in any of this: whoever writes YAML must not choose an image, an account or a resource.
"""

import datetime
from typing import Any

from kubernetes.client import models as k8s  # type: ignore[import-untyped]
from kubernetes.utils.quantity import parse_quantity  # type: ignore[import-untyped]

from llambert_etl.config.pods import Kubernetes, Pod, StepName
from llambert_etl.orchestration.commands import EXECUTABLE

SECRETS_PATH = "/run/secrets/llambert"
SCRATCH_PATH = "/tmp"  # noqa: S108 - a volume of the pod, the only place that it can write files to
STATE_PATH = "/var/lib/llambert"
SHARED_MEMORY_PATH = "/dev/shm"  # noqa: S108 - where the processes of a training on several GPUs meet

_USER = 10001
_GRACE_SECONDS = 60
_POLL_SECONDS = 2


def pod_arguments(settings: Kubernetes, step: StepName, *, device: bool = True) -> dict[str, Any]:
    """Return what KubernetesPodOperator needs besides the step's own arguments."""
    pod = settings.pod(step, device=device)
    return {
        "image": settings.image,
        "namespace": settings.namespace,
        "cmds": [EXECUTABLE],
        "service_account_name": pod.service_account,
        "automount_service_account_token": False,
        "security_context": _pod_security(),
        "container_security_context": _container_security(),
        "container_resources": _resources(settings.gpu_resource, pod),
        "node_selector": pod.node_selector,
        "tolerations": [k8s.V1Toleration(**_snake_case(toleration)) for toleration in pod.tolerations],
        "priority_class_name": pod.priority_class or None,
        "image_pull_secrets": [k8s.V1LocalObjectReference(name=name) for name in pod.pull_secrets],
        "volumes": _volumes(pod),
        "volume_mounts": [
            k8s.V1VolumeMount(name="scratch", mount_path=SCRATCH_PATH),
            k8s.V1VolumeMount(name="memory", mount_path=SHARED_MEMORY_PATH),
            k8s.V1VolumeMount(name="secrets", mount_path=SECRETS_PATH, read_only=True),
            *([k8s.V1VolumeMount(name="state", mount_path=STATE_PATH)] if pod.state_claim else ()),
        ],
        "env_from": [k8s.V1EnvFromSource(config_map_ref=k8s.V1ConfigMapEnvSource(name=pod.config_map))],
        "env_vars": _environment(pod),
        "termination_message_policy": "FallbackToLogsOnError",
        "termination_grace_period": _GRACE_SECONDS,
        "active_deadline_seconds": pod.deadline_seconds,
        "schedule_timeout_seconds": pod.schedule_seconds,
        "startup_timeout_seconds": pod.startup_seconds,
        "startup_check_interval_seconds": _POLL_SECONDS,
        "execution_timeout": datetime.timedelta(
            seconds=pod.schedule_seconds + pod.startup_seconds + pod.deadline_seconds
        ),
        "do_xcom_push": False,
        "deferrable": pod.deferrable,
        "log_pod_spec_on_failure": False,
        "log_events_on_failure": True,
    }


def _environment(pod: Pod) -> dict[str, str]:
    return {
        "LLAMBERT_SECRETS_DIR": SECRETS_PATH,
        "LLAMBERT_STATE": STATE_PATH if pod.state_claim else f"{SCRATCH_PATH}/state",
        "HOME": SCRATCH_PATH,
        "HF_HUB_OFFLINE": "1",
        # Torch counts the node's processors, not those of the limit, and all its threads would wait for their turn.
        "OMP_NUM_THREADS": str(max(1, int(parse_quantity(pod.cpu)))),
    }


def _volumes(pod: Pod) -> list[k8s.V1Volume]:
    claim = k8s.V1PersistentVolumeClaimVolumeSource(claim_name=pod.state_claim)
    return [
        k8s.V1Volume(name="scratch", empty_dir=k8s.V1EmptyDirVolumeSource(size_limit=pod.scratch)),
        # NCCL wants more than the 64 MiB that a container has by default. What lies there counts as the pod's memory.
        k8s.V1Volume(
            name="memory", empty_dir=k8s.V1EmptyDirVolumeSource(medium="Memory", size_limit=pod.shared_memory)
        ),
        k8s.V1Volume(name="secrets", secret=k8s.V1SecretVolumeSource(secret_name=pod.secret, default_mode=0o440)),
        *([k8s.V1Volume(name="state", persistent_volume_claim=claim)] if pod.state_claim else ()),
    ]


def _resources(gpu_resource: str, pod: Pod) -> k8s.V1ResourceRequirements:
    amounts = {"cpu": pod.cpu, "memory": pod.memory, **({gpu_resource: str(pod.gpus)} if pod.gpus else {})}
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
