"""What became of a pod: whether its step is done, and else the error that says why and whether trying again helps."""

import contextlib
import json
import re
from collections.abc import Sequence

from kubernetes.client import ApiException  # type: ignore[import-untyped]
from kubernetes.client import models as k8s

from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.orchestration.retry import error_for

BASE = "base"

_OURS = (DataError.exit_code, TransientError.exit_code, ConfigError.exit_code)
# Not `unknown` alone: containerd writes `code = Unknown` where a registry does not answer.
_NO_SUCH_IMAGE = re.compile(
    r"not found|(manifest|name) unknown|denied|unauthorized|InvalidImageName|ErrImageNeverPull", re.IGNORECASE
)
_FULL = re.compile(r"exceeds the limit|exceeds the total limit|usage exceeds", re.IGNORECASE)


def ended(pod: k8s.V1Pod) -> bool:
    """Say whether the step will do no more, whatever a cluster has put beside its container."""
    return _terminated(pod) is not None or pod.status.phase in ("Failed", "Succeeded")


def message_of(pod: k8s.V1Pod) -> str:
    """Return what the step has left in its termination message."""
    return str((state := _terminated(pod)) and state.message or "").strip()


def failure_of(pod: k8s.V1Pod) -> Exception | None:
    """Return what to raise for a pod that has ended; None where its step has succeeded."""
    name, state = pod.metadata.name, _terminated(pod)
    why = ": ".join(filter(None, [pod.status.reason, pod.status.message]))
    disturbed = pod.metadata.deletion_timestamp or pod.status.reason
    # A process that is asked to stop may end well without having done its work.
    if state and state.exit_code == 0 and (message_of(pod) or not disturbed):
        return None
    if pod.status.reason == "DeadlineExceeded":
        limit = pod.spec.active_deadline_seconds
        return TransientError(f"pod {name!r}: ran longer than {limit} s; {_raise('deadline_seconds')}")
    if state and state.reason == "OOMKilled":
        return _out_of_memory(pod)
    if pod.status.reason == "Evicted" and _FULL.search(why):
        return ConfigError(f"pod {name!r}: {why}; {_raise('scratch')}")
    if state and state.exit_code in _OURS:
        return error_for(state.exit_code, message_of(pod))
    if disturbed:
        return TransientError(f"pod {name!r}: {why or 'was deleted from outside'}, before its step was done")
    if state:
        return error_for(state.exit_code, message_of(pod) or state.reason or "no output")
    return TransientError(f"pod {name!r}: failed without a word of its container")


def not_ended(pod: k8s.V1Pod, warnings: Sequence[str]) -> Exception:
    """Return what to raise for a pod that was waited for long enough; `warnings` are its events."""
    name, waiting = pod.metadata.name, _waiting(pod)
    said = f"{waiting.reason}: {waiting.message or ''}" if waiting else ""
    if waiting and "Image" in waiting.reason:
        pulled = next((each for each in reversed(warnings) if "pull image" in each), said)
        kind = ConfigError if _NO_SUCH_IMAGE.search(f"{said} {pulled}") else TransientError
        return kind(
            f"pod {name!r}: no image {_base(pod).image!r}: {pulled}; push it, or mend LLAMBERT_KUBERNETES__IMAGE"
        )
    if pod.status.phase != "Pending":
        return TransientError(f"pod {name!r}: was not done in the time that its task may take")
    scheduled = next((each for each in pod.status.conditions or () if each.type == "PodScheduled"), None)
    if scheduled is None or scheduled.status != "True":
        no_room = (scheduled and scheduled.message) or "; ".join(warnings[-1:]) or "the cluster has not said why"
        return TransientError(f"pod {name!r}: no node had room for it: {no_room}; {_raise('schedule_seconds')}")
    last = "; ".join([*filter(None, [said]), *warnings[-1:]])
    return TransientError(f"pod {name!r}: did not start on its node: {last}; {_raise('startup_seconds')}")


def gone(name: str) -> Exception:
    return TransientError(f"pod {name!r}: is not there any more; it was deleted from outside, or preempted")


def refused(error: ApiException) -> Exception:
    """Return what to raise where the cluster's API says no."""
    with contextlib.suppress(TypeError, ValueError, KeyError):
        said = json.loads(error.body)["message"]
        kind = TransientError if "quota" in said or error.status >= 429 else ConfigError
        return kind(f"the cluster refuses it: {error.status} {said}")
    return TransientError(f"the cluster refuses it: {error.status} {error.reason}")


def _out_of_memory(pod: k8s.V1Pod) -> Exception:
    limit = ((_base(pod).resources and _base(pod).resources.limits) or {}).get("memory", "none")
    return ConfigError(f"pod {pod.metadata.name!r}: needed more memory than its limit of {limit}; {_raise('memory')}")


def _raise(name: str) -> str:
    return f"raise LLAMBERT_KUBERNETES__{name.upper()}, or for this step alone in LLAMBERT_KUBERNETES__STEPS"


def _base(pod: k8s.V1Pod) -> k8s.V1Container:
    return next(each for each in pod.spec.containers if each.name == BASE)


def _terminated(pod: k8s.V1Pod) -> k8s.V1ContainerStateTerminated | None:
    state = _state(pod)
    return state.terminated if state else None


def _waiting(pod: k8s.V1Pod) -> k8s.V1ContainerStateWaiting | None:
    state = _state(pod)
    return state.waiting if state else None


def _state(pod: k8s.V1Pod) -> k8s.V1ContainerState | None:
    statuses = (pod.status.container_statuses if pod.status else None) or ()
    return next((each.state for each in statuses if each.name == BASE), None)
