#!/usr/bin/env bash
# Airflow's KubernetesPodOperator with durable execution: what becomes of a pod that ends while no task process watches it?
#
# One would guess: `durable=True`, the default on Airflow 3.3, has a retry go on with the pod of the try before, so a pod that has
# done its work meanwhile gives its result. It does so only with a pod that still runs. One that has succeeded is deleted, with
# its exit code, termination message and log unread, and another is started that does all the work again. A worker that dies
# near the end of a training of hours, or a retry delay longer than what is left of it, costs the whole of it.
#
# Two tries of one task run against as much of a Kubernetes API as they ask for; the first is killed by SIGKILL.
# Exits with 1 if that has changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "apache-airflow==3.3.2" "apache-airflow-core==3.3.2" \
    "apache-airflow-task-sdk==1.3.2" "apache-airflow-providers-cncf-kubernetes==10.25.0" "apache-airflow-providers-standard==1.21.0"

cat > "$folder/try.py" <<'PYTHON'
"""One try of a task, in a process of its own: `try.py NUMBER STORE`."""

import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

logging.disable(logging.CRITICAL)
number, file = int(sys.argv[1]), Path(sys.argv[2])


class Store:
    """The task state store, which outlives a try."""

    def get(self, key):
        return json.loads(file.read_text()).get(key) if file.exists() else None

    def set(self, key, value):
        file.write_text(json.dumps({key: value}))


pushed = lambda key, value: None
instance = SimpleNamespace(dag_id="d", task_id="t", map_index=-1, try_number=number, xcom_push=pushed)
operator = KubernetesPodOperator(task_id="t", image="example/image", namespace="n", log_events_on_startup=False)
operator.execute({"ti": instance, "run_id": "r", "dag": SimpleNamespace(), "task_state_store": Store()})
PYTHON

AIRFLOW_HOME="$folder/airflow" AIRFLOW__CORE__LOAD_EXAMPLES=False "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from urllib.parse import urlsplit

folder = sys.argv[1]
print("airflow", version("apache-airflow"), "provider", version("apache-airflow-providers-cncf-kubernetes"))
pods, done, running = {}, [], threading.Event()


def status(phase):
    ended = {"terminated": {"exitCode": 0, "message": "the result"}} if phase == "Succeeded" else {"running": {}}
    base = {"name": "base", "state": ended, "image": "", "imageID": "", "ready": False, "restartCount": 0}
    return {"phase": phase, "containerStatuses": [base]}


class Api(BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        name = urlsplit(self.path).path.rpartition("/")[2]
        code, reply = 200, {"kind": "PodList", "items": list(pods.values())}
        if self.command == "POST":
            reply = json.loads(body)
            # The pod of the second try is done at once.
            pods[reply["metadata"]["name"]] = reply | {"status": status("Succeeded" if done else "Running")}
            done.append("pod started")
        elif self.command == "DELETE":
            ended = pods.pop(name)["status"]["phase"]
            done.append(f"pod deleted that had {ended}")
            reply = {"kind": "Status"}
        elif name == "log":
            running.set()
            reply = {}
        elif name != "pods":
            code, reply = (200, pods[name]) if name in pods else (404, {})
        data = json.dumps(reply).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = do_DELETE = answer

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
threading.Thread(target=server.serve_forever, daemon=True).start()
config = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "c",
    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
    "users": [{"name": "u", "user": {}}],
}
connection = {"conn_type": "kubernetes", "extra": {"kube_config": json.dumps(config)}}
os.environ["AIRFLOW_CONN_KUBERNETES_DEFAULT"] = json.dumps(connection)


def attempt(number):
    return subprocess.Popen(
        [sys.executable, f"{folder}/try.py", str(number), f"{folder}/store"], stdout=subprocess.DEVNULL
    )


first = attempt(1)
assert running.wait(300), "the first try did not get as far as the pod's log"
first.kill()
first.wait()
for pod in pods.values():
    pod["status"] = status("Succeeded")
print("the first try was killed; the pod has succeeded since; the second try begins:", done)
assert attempt(2).wait(300) == 0
print("both tries:", done)
assert done[:3] == ["pod started", "pod deleted that had Succeeded", "pod started"], "the retry takes what was done"
PYTHON
