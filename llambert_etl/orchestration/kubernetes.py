"""Runs a step as a pod: started once, found again by a retry, and judged by what its container says of its end."""

import contextlib
import datetime
import json
import threading
import time
from typing import Any, NoReturn, cast

import tenacity
from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import (
    KubernetesApiException,
    PodLaunchFailedException,
)
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodLaunchTimeoutException
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException
from kubernetes.client import ApiException  # type: ignore[import-untyped]
from kubernetes.client import models as k8s
from pydantic import JsonValue
from urllib3.exceptions import HTTPError

from llambert_etl.errors import ConfigError, TransientError
from llambert_etl.facts import Linked
from llambert_etl.orchestration.commands import partition_of, rendered
from llambert_etl.orchestration.handover import patience
from llambert_etl.orchestration.links import LINKS
from llambert_etl.orchestration.pod_end import ended, failure_of, gone, message_of, not_ended, refused
from llambert_etl.orchestration.pod_trigger import PodTrigger
from llambert_etl.settings import load_settings

STORE_KEY = "llambert_pod"

_POLL_SECONDS = 2
_LOOK_SECONDS = 0.5  # between two looks at a pod that may end soon: half of it is lost, of a step's few seconds
_DELETE_SECONDS = 5
_LOG_SECONDS = 30  # between two looks at the log of a pod for which the triggerer waits
# A control plane that is upgraded is away for minutes. The pod does not mind.
_NO_CONTACT_SECONDS = 900
_LOST = (ApiException, HTTPError, KubernetesApiException)


class PodStep(KubernetesPodOperator):
    """Run `llambert *arguments` once in a pod, whatever becomes of the worker, and return its manifest.

    The step leaves its manifest, or the reason why it failed, in the container's termination message (4 KiB at most), a
    longer manifest in a note in the lake. That needs no sidecar, no second image and no right to run commands in pods.

    Which pod it is stands in the task state store before it is made. A retry that finds it there, running or done, goes
    on with it or takes its result. Only what the container says of its end counts, never how watching it ended.
    """

    operator_extra_links = LINKS
    hold_seconds = 15.0  # to wait elsewhere, and to go on in a second process, costs as much

    def __init__(self, *, task_name: str = "", report: str = "", mlflow_uri: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.task_name = task_name
        self.report = report
        self.mlflow_uri = mlflow_uri
        self.partition = ""
        self.made = Linked()
        self._store: Any = None  # while the pod is watched: at other times Airflow must not be asked
        self._left = False

    def execute(self, context: Context) -> None:
        self.arguments = rendered(self.arguments)
        self.partition = partition_of(self.arguments)
        pod = self.pod = self._attached(context) or self._started(context)
        self._heed_kill()
        if self.deferrable and not self._ends_soon(pod):
            self._wait_elsewhere(context, pod)
        self._follow(context, pod)

    def finish(self, context: Context, event: dict[str, Any]) -> None:
        """Go on where the triggerer has stopped to wait."""
        self.partition = partition_of(rendered(self.arguments))
        pod = self.pod = self._attached(context)
        if pod is None:
            raise gone(event["name"])
        if event["status"] == "timeout" and not ended(pod):
            # A pod that got its node meanwhile still has its time.
            if pod.status.phase == "Pending" or self._deadline(context) <= datetime.datetime.now(datetime.UTC):
                self._give_up(context, pod)
            self._wait_elsewhere(context, pod)
        self._follow(context, pod, event.get("last_log_time"))

    def _started(self, context: Context) -> k8s.V1Pod:
        pod = self.pod = self.build_pod_request_obj(context)
        pod.spec.containers[0].env.append(k8s.V1EnvVar(name="LLAMBERT_HAND_OVER", value=_note_of(pod)))
        store, stored = context["task_state_store"], self._stored(pod, context)
        store.set(STORE_KEY, stored)
        made = self._created(pod)
        store.set(STORE_KEY, {**stored, "uid": made.metadata.uid})
        self.log.info("Started pod %s: %s", made.metadata.name, " ".join([*self.cmds, *self.arguments]))
        return made

    def _created(self, pod: k8s.V1Pod) -> k8s.V1Pod:
        try:
            return self.pod_manager.create_pod(pod)
        except ApiException as error:
            # Its name is ours alone: it was made, and the answer was lost.
            if error.status == 409 and (made := self._read(pod.metadata.name, pod.metadata.namespace)):
                return made
            raise refused(error) from error
        except HTTPError as error:
            raise TransientError(f"pod {pod.metadata.name!r}: no contact with the cluster to start it") from error

    def _attached(self, context: Context) -> k8s.V1Pod | None:
        """Return the pod that this task has started, unless it is gone or the task was cleared since."""
        stored = context["task_state_store"].get(STORE_KEY)
        if not isinstance(stored, dict) or (pod := self._read(str(stored["name"]), str(stored["namespace"]))) is None:
            return None
        labels = self._get_ti_pod_labels(context, include_try_number=False).items()
        if stored.get("uid", pod.metadata.uid) != pod.metadata.uid or not labels <= (pod.metadata.labels or {}).items():
            self.log.warning("Pod %s is another one of that name; it is left alone", pod.metadata.name)
            return None
        if stored["max_tries"] != self._stored(pod, context)["max_tries"]:
            self.log.info("The task was cleared: deleting pod %s of the try before", pod.metadata.name)
            self._delete(pod)
            return None
        if pod.metadata.deletion_timestamp and not (ended(pod) and failure_of(pod) is None):
            return None
        self.log.info("Going on with pod %s, which is %s", pod.metadata.name, pod.status.phase)
        return pod

    def _stored(self, pod: k8s.V1Pod, context: Context) -> dict[str, JsonValue]:
        # Airflow grants more tries to a task that is cleared, and to none that it tries again.
        return {
            "name": pod.metadata.name,
            "namespace": pod.metadata.namespace,
            "max_tries": context["ti"].max_tries,
        }

    def _wait_elsewhere(self, context: Context, pod: k8s.V1Pod) -> NoReturn:
        """Have the triggerer wait. It looks up the connection by itself: the trigger's row gets no secret of it."""
        now, deadline = datetime.datetime.now(datetime.UTC), self._deadline(context)
        trigger = PodTrigger(
            pod_name=pod.metadata.name,
            pod_namespace=pod.metadata.namespace,
            trigger_start_time=now,
            base_container_name=self.base_container_name,
            kubernetes_conn_id=self.kubernetes_conn_id,
            poll_interval=_POLL_SECONDS,
            schedule_timeout=self.schedule_timeout_seconds,
            startup_timeout=self.startup_timeout_seconds,
            startup_check_interval=self.startup_check_interval_seconds,
            termination_grace_period=self.termination_grace_period,
            logging_interval=_LOG_SECONDS,
            trigger_kwargs={"_execution_deadline": int(deadline.timestamp())},
        )
        # The trigger has to end first, or nobody would look at the pod.
        self.defer(trigger=trigger, method_name="finish", timeout=deadline - now + datetime.timedelta(minutes=5))
        raise AssertionError("deferring raises")

    def _ends_soon(self, pod: k8s.V1Pod) -> bool:
        until = time.monotonic() + self.hold_seconds
        while not ended(self._seen(pod)):
            self._heed_kill()
            if time.monotonic() >= until:
                return False
            time.sleep(_LOOK_SECONDS)
        return True

    def _deadline(self, context: Context) -> datetime.datetime:
        started: datetime.datetime = context["ti"].start_date
        return started + cast(datetime.timedelta, self.execution_timeout)

    def _follow(self, context: Context, pod: k8s.V1Pod, since: Any = None) -> None:
        """Wait until the pod has ended, with its log, and account for its end."""
        pod = self._seen(pod)
        if ended(pod):
            with contextlib.suppress(*_LOST):
                self._write_logs(pod, since_time=since)
        while not ended(pod):
            self._watch(context, pod)
            self._heed_kill()
            pod = self._seen(pod)
        if failure := failure_of(pod):
            self._settle(context, pod)
            raise failure
        # Asking the operator to push would add the sidecar, so the manifest is pushed by hand.
        manifest = _manifest_of(pod)
        self.made = Linked.of(manifest)
        context["ti"].xcom_push(key="return_value", value=manifest)
        self._settle(context, pod)

    def _watch(self, context: Context, pod: k8s.V1Pod) -> None:
        """Write the pod's log until it ends, or until watching does."""
        self._store = context["task_state_store"]
        try:
            self.await_pod_start(pod)
            self.await_pod_completion(pod)
        except (PodLaunchTimeoutException, PodLaunchFailedException):
            if (now := self._seen(pod)).status.phase == "Pending":
                self._give_up(context, now)
        except (AirflowException, *_LOST) as error:
            self._heed_kill()
            self.log.warning("Watching pod %s was interrupted: %s", pod.metadata.name, error)
            time.sleep(_POLL_SECONDS)
        finally:
            self._store = None

    def _give_up(self, context: Context, pod: k8s.V1Pod) -> NoReturn:
        failure = not_ended(pod, self._warnings(pod))
        self._settle(context, pod)
        raise failure

    def _seen(self, pod: k8s.V1Pod) -> k8s.V1Pod:
        if (now := self._read(pod.metadata.name, pod.metadata.namespace)) is None:
            self._heed_kill()
            raise gone(pod.metadata.name)
        return now

    def _read(self, name: str, namespace: str) -> k8s.V1Pod | None:
        """Return the pod as it is now; None where it is gone. The cluster's API may be away for a while."""
        wanted = k8s.V1Pod(metadata=k8s.V1ObjectMeta(name=name, namespace=namespace))
        patient = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: _away(error) and not self._killed),
            stop=tenacity.stop_after_delay(_NO_CONTACT_SECONDS),
            wait=tenacity.wait_fixed(_POLL_SECONDS),
            reraise=True,
        )
        try:
            return patient(self.pod_manager.read_pod, wanted)
        except ApiException as error:
            if error.status == 404:
                return None
            raise TransientError(
                f"pod {name!r}: the cluster refuses to show it: {error.status} {error.reason}"
            ) from error
        except _LOST as error:
            raise TransientError(f"pod {name!r}: no contact with the cluster; the next try goes on with it") from error

    def _warnings(self, pod: k8s.V1Pod) -> list[str]:
        with contextlib.suppress(*_LOST):
            return [each.message for each in self.pod_manager.read_pod_events(pod).items if each.type == "Warning"]
        return []

    def on_kill(self) -> None:
        """Delete the pod, unless the next try is to go on with it."""
        self._left = self._store is not None and patience(self._store, STORE_KEY) > 0
        self._killed = True
        if not self._left:
            # In a thread, for this may have come in the middle of a request, whose locks are free only when it goes on.
            deleting = threading.Thread(target=super().on_kill, daemon=True)
            deleting.start()
            deleting.join(_DELETE_SECONDS)

    def _heed_kill(self) -> None:
        """Go no further after `on_kill`, which Airflow calls in the middle of anything and then goes on."""
        if self._left:
            raise TransientError("Airflow has given this try up; the pod runs on for the next one")
        if self._killed and self.pod:
            self._delete(self.pod)
            raise TransientError(f"pod {self.pod.metadata.name!r}: deleted, for its task was asked to stop")

    def _settle(self, context: Context, pod: k8s.V1Pod) -> None:
        """The pod has said all it can, and a later try is not to find it."""
        self._delete(pod)
        context["task_state_store"].delete(STORE_KEY)

    def _delete(self, pod: k8s.V1Pod) -> None:
        try:
            self.pod_manager.delete_pod(pod)
        except _LOST as error:
            self.log.warning("Pod %s was not deleted: %s", pod.metadata.name, error)


def _note_of(pod: k8s.V1Pod) -> str:
    return f"_manifests/{pod.metadata.name}.json"


def _manifest_of(pod: k8s.V1Pod) -> dict[str, JsonValue]:
    """Return what a pod has left. Raise ConfigError where that is nothing: whoever needs it must not go on without."""
    from llambert_etl.store.storage import Storage  # imported here: it brings polars, which parsing a Dag does not need

    message = message_of(pod)
    with contextlib.suppress(json.JSONDecodeError):
        return cast(dict[str, JsonValue], json.loads(message))
    lake, key = Storage.from_settings(load_settings()), f"_staging/{_note_of(pod)}"
    found = lake.read(key)
    if found is None:
        raise ConfigError(
            f"pod {pod.metadata.name!r} ended well, but has left no manifest, nor is one at {lake.uri}/{key}: "
            "give its image and Airflow the same version and the same LLAMBERT_LAKE, then clear the step"
        )
    return cast(dict[str, JsonValue], json.loads(found))


def _away(error: BaseException) -> bool:
    return isinstance(error, _LOST) and not (isinstance(error, ApiException) and error.status in (401, 403, 404))
