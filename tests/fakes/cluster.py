"""As much of a Kubernetes API as one pod needs: it is created, read, watched to its end, and deleted."""

import datetime
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from tests.fakes.server import Answer, FakeServer, Request, json_answer

NOW = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pending(scheduled: bool = True, **waiting: str) -> dict[str, Any]:
    """Return the status of a pod that waits, for a node or there for what `waiting` says."""
    condition = {"type": "PodScheduled", "status": "True" if scheduled else "False"}
    if not scheduled:
        condition["message"] = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    containers = [container("base", {"waiting": waiting})] if waiting else None
    return {"phase": "Pending", "conditions": [condition], "containerStatuses": containers}


def running() -> dict[str, Any]:
    return {"phase": "Running", "containerStatuses": [container("base", {"running": {"startedAt": NOW}})]}


def done(exit_code: int = 0, message: str = "", reason: str | None = None, **status: str) -> dict[str, Any]:
    """Return the status of a pod whose step has ended, with what a service mesh puts beside its container."""
    ended = {"exitCode": exit_code, "message": message, "reason": reason, "startedAt": NOW, "finishedAt": NOW}
    beside = {**ended, "exitCode": 0, "message": "", "reason": "Completed"}
    containers = [container("a-proxy", {"terminated": beside}), container("base", {"terminated": ended})]
    return {"phase": "Failed" if exit_code else "Succeeded", "containerStatuses": containers, **status}


def container(name: str, state: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "state": state, "image": "", "imageID": "", "ready": False, "restartCount": 0}


class FakeCluster(FakeServer):
    """`life` is what a pod goes through: each time that it is read it is one further. After `None` it is gone.

    `before` is called with each request, before it is served. `leave` does with a pod what its step does at its end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.life: list[dict[str, Any] | None] = [done()]
        self.warnings: list[str] = []
        self.pods: dict[str, Any] = {}
        self.created: list[Any] = []
        self.requests: list[Request] = []
        self.before: Callable[[Request], object] = lambda request: None
        self.leave: Callable[[Any], object] = lambda pod: None
        self._lives: dict[str, list[dict[str, Any] | None]] = {}

    def route(self, request: Request) -> Answer:
        self.requests.append(request)
        self.before(request)
        name = urlsplit(request.path).path.rpartition("/")[2]
        match request.method, name:
            case "POST", _:
                return json_answer(self.put(json.loads(request.body)))
            case "DELETE", _:
                return json_answer({"kind": "Status"}) if self.pods.pop(name, None) else _absent(name)
            case _, "log":
                return 200, {"Content-Type": "text/plain"}, f"{NOW} working\n".encode()
            case _, "events":
                return json_answer({"kind": "EventList", "items": self._events(), "metadata": {"resourceVersion": "1"}})
        return self._read(name)

    def put(self, pod: Any, **metadata: Any) -> Any:
        pod["metadata"] |= {"uid": f"uid-{len(self.created)}", **metadata}
        pod["status"] = {"phase": "Pending"}
        self.pods[pod["metadata"]["name"]] = pod
        self._lives[pod["metadata"]["name"]] = list(self.life)
        self.created.append(pod)
        self.leave(pod)
        return pod

    def _read(self, name: str) -> Answer:
        if name in self.pods:
            life = self._lives[name]
            status = life.pop(0) if len(life) > 1 else life[0]
            if status is None:
                del self.pods[name]
            else:
                self.pods[name]["status"] = status
        return json_answer(self.pods[name]) if name in self.pods else _absent(name)

    def _events(self) -> list[Any]:
        about = {"involvedObject": {}, "metadata": {"uid": "e"}}
        return [{**about, "type": "Warning", "message": message} for message in self.warnings]


def _absent(name: str) -> Answer:
    body = {"kind": "Status", "code": 404, "message": f'pods "{name}" not found'}
    return 404, {"Content-Type": "application/json"}, json.dumps(body).encode()
