"""The cluster that `KUBECONFIG` names: a namespace of this run's own, what every pod needs there, and what was seen."""

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from kubernetes import client, config, watch
from kubernetes.client import ApiException
from kubernetes.client import models as k8s

GPU = "nvidia.com/gpu"
T = TypeVar("T")


class Seen(NamedTuple):
    """One pod, as it was when it was last heard of. `moments`: when it was first heard to be scheduled, say."""

    name: str
    run: str
    step: str
    phase: str
    moments: dict[str, float]

    @property
    def at_work(self) -> bool:
        return not {"ended", "gone"} & set(self.moments)


class Cluster:
    """Enter it to have the namespace; what was started there is deleted with it."""

    def __init__(self, image: str) -> None:
        config.load_kube_config()
        self.image, self.api = image, client.CoreV1Api()
        self.scheduling = client.SchedulingV1Api()
        self.namespace = f"llambert-verify-{secrets.token_hex(3)}"
        self.canary = secrets.token_hex(16)
        self.seen: dict[str, Seen] = {}
        self.most: dict[str, int] = {}  # step -> pods that were there at once
        self._over = threading.Event()

    def __enter__(self) -> "Cluster":
        self._furnish()
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def _furnish(self) -> None:
        self.api.create_namespace({"metadata": {"name": self.namespace}})
        self.api.create_namespaced_service_account(self.namespace, {"metadata": {"name": "llambert-step"}})
        secret = {"metadata": {"name": "llambert-secrets"}, "stringData": {"CANARY": self.canary}}
        self.api.create_namespaced_secret(self.namespace, secret)
        self.api.create_namespaced_config_map(
            self.namespace, {"metadata": {"name": "llambert-settings"}, "data": {"LLAMBERT_LOG": "json"}}
        )

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.api.delete_namespace(self.namespace)

    def pods(self, run: str | None = None) -> list[k8s.V1Pod]:
        found = self.api.list_namespaced_pod(self.namespace, label_selector="!stranger").items
        return [pod for pod in found if run is None or (pod.metadata.labels or {}).get("run_id") == run]

    def pod(self, run: str, phase: str | None = None, *, deadline: float = 180.0) -> k8s.V1Pod:
        """Return the pod of a run, once it has the phase asked for."""

        def found() -> k8s.V1Pod | None:
            pods = [pod for pod in self.pods(run) if not pod.metadata.deletion_timestamp]
            return next((pod for pod in pods if phase in (None, pod.status.phase)), None)

        return until(f"a pod of {run} that is {phase}", found, deadline)

    def started(self, run: str) -> list[str]:
        """Return the names of all pods that a run has ever had."""
        return sorted(pod.name for pod in self.seen.values() if pod.run == run)

    def delete(self, name: str) -> None:
        with contextlib.suppress(ApiException):
            self.api.delete_namespaced_pod(name, self.namespace)

    def evict(self, name: str) -> None:
        self.api.create_namespaced_pod_eviction(
            name,
            self.namespace,
            {
                "apiVersion": "policy/v1beta1",
                "kind": "Eviction",
                "metadata": {"name": name, "namespace": self.namespace},
            },
        )

    def preempt(self) -> None:
        """Start a pod of higher priority that needs all GPUs, and delete it when it has got them."""
        name = f"{self.namespace}-first"
        self.scheduling.create_priority_class({"metadata": {"name": name}, "value": 1000})
        try:
            gpus = {GPU: str(self.gpus())}
            self._make(name, {"priorityClassName": name}, {"requests": gpus, "limits": gpus})
            until(
                "the other pod to run",
                lambda: self.api.read_namespaced_pod(name, self.namespace).status.phase == "Running",
            )
        finally:
            self.delete(name)
            self.scheduling.delete_priority_class(name)

    def _phase(self, name: str) -> str:
        return str(self.api.read_namespaced_pod(name, self.namespace).status.phase)

    def start_pod(self, name: str) -> None:
        self._make(name, {}, {})

    def address_of(self, name: str) -> str | None:
        found: str | None = self.api.read_namespaced_pod(name, self.namespace).status.pod_ip
        return found

    def stranger(self, pod: k8s.V1Pod) -> None:
        """Make a pod of the same name and with the same labels, which is another one."""
        self._make(pod.metadata.name, {}, {}, {**pod.metadata.labels, "stranger": "true"})

    def strangers(self) -> list[k8s.V1Pod]:
        return list(self.api.list_namespaced_pod(self.namespace, label_selector="stranger").items)

    def gpus(self) -> int:
        return sum(int((node.status.allocatable or {}).get(GPU, 0)) for node in self.api.list_node().items)

    def canary_in(self, folder: Path) -> list[str]:
        """Return each file below a folder that holds the secret of the pods."""
        files = [file for file in folder.rglob("*") if file.is_file()]
        return [f"the secret is in {file}" for file in files if self.canary.encode() in file.read_bytes()]

    def _make(self, name: str, spec: Any, resources: Any, labels: dict[str, str] | None = None) -> None:
        container = {"name": "base", "image": self.image, "command": ["sleep", "600"], "resources": resources}
        body = {"metadata": {"name": name, "labels": labels or {}}, "spec": {"containers": [container], **spec}}
        self.api.create_namespaced_pod(self.namespace, body)

    @contextlib.contextmanager
    def cordoned(self) -> Iterator[None]:
        nodes = [node.metadata.name for node in self.api.list_node().items if not node.spec.unschedulable]
        try:
            for node in nodes:
                self.api.patch_node(node, {"spec": {"unschedulable": True}})
            yield
        finally:
            for node in nodes:
                self.api.patch_node(node, {"spec": {"unschedulable": False}})

    def _watch(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(Exception):
                now = self.api.list_namespaced_pod(self.namespace)
                self._note_all(now.items)
                stream = watch.Watch().stream(
                    self.api.list_namespaced_pod,
                    self.namespace,
                    timeout_seconds=30,
                    resource_version=now.metadata.resource_version,  # what happens from there on is told
                )
                for event in stream:
                    self._note(event["object"], gone=event["type"] == "DELETED")
                continue
            self._over.wait(0.5)

    def _note_all(self, pods: list[k8s.V1Pod]) -> None:
        """Account for what has happened while nobody watched: one that went unseen would count as at work for ever."""
        there = {pod.metadata.uid for pod in pods}
        for uid, pod in self.seen.items():
            if uid not in there:
                pod.moments.setdefault("gone", time.time())
        for each in pods:
            self._note(each, gone=False)

    def _note(self, pod: k8s.V1Pod, *, gone: bool) -> None:
        labels: dict[str, Any] = pod.metadata.labels or {}
        if "stranger" in labels:
            return
        known = self.seen.get(pod.metadata.uid)
        moments = known.moments if known else {}
        for moment in _moments(pod, gone):
            moments.setdefault(moment, time.time())
        step = labels.get("task_id", "")
        self.seen[pod.metadata.uid] = Seen(pod.metadata.name, labels.get("run_id", ""), step, pod.status.phase, moments)
        there = sum(pod.step == step and pod.at_work for pod in self.seen.values())
        self.most[step] = max(there, self.most.get(step, 0))


def _moments(pod: k8s.V1Pod, gone: bool) -> Iterator[str]:
    """Yield what has become of a pod so far."""
    yield "made"
    if any(each.type == "PodScheduled" and each.status == "True" for each in pod.status.conditions or ()):
        yield "scheduled"
    states = [each.state for each in pod.status.container_statuses or ()]
    if any(state.running or state.terminated for state in states):
        yield "started"
    if any(state.terminated for state in states):
        yield "ended"
    if gone:
        yield "gone"


def until(what: str, ask: Callable[[], T | None], deadline: float = 180.0) -> T:
    end = time.monotonic() + deadline
    while not (answer := ask()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {deadline:.0f} s for {what}")
        time.sleep(0.5)
    return answer
