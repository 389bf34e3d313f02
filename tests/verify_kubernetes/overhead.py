"""What a step costs for being a pod, told apart: the same shard as a pod and as a process, with work and without."""

import datetime
import json
import os
import re
import resource
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from laptop.airflow_client import AirflowClient, Run
from laptop.demo.data import read_corpus
from laptop.environment import variables
from laptop.stack import REPOSITORY
from llambert_etl.config.pods import Kubernetes
from llambert_etl.orchestration.pod_spec import pod_arguments
from llambert_etl.partition import Partition
from tests.verify_kubernetes.deployment import TASK, WHOLE, Deployment, llambert
from tests.verify_kubernetes.loop import ByHand, Say

DAY = Partition("2026-11-20")  # after every night: no training counts its documents
_ROWS, _REVIEWS_EACH = 3_000, 3
_RUN = "measured"
_LONGEST_RATIO = 1.3
# What the shell's `times` says last: user and system seconds of the processes that it has waited for.
_TIMES = re.compile(r"(\d+)m([\d.]+)s (\d+)m([\d.]+)s")


def measure(
    deployment: Deployment, client: AirflowClient, hand: ByHand, say: Say, must: Callable[[bool, str], None]
) -> dict[str, Any]:
    """Label one fat shard as a pod and as a process, then both again, when there is nothing left to do."""
    _drop(deployment)
    words = ("--task", TASK, "--partition", DAY, "--run", _RUN)
    for environment in (variables(deployment.settings), hand.environment):
        for name in ("ingest", "plan"):
            llambert(name, *words, environment={**environment, **_ONE_SHARD})
    say("a fat shard as a pod ...")
    pod = _as_pod(deployment, client, "measured")
    say(f"{pod}; as a process ...")
    threads = _threads(deployment)
    process = _as_process(hand, threads)
    say(f"{process}; and with nothing left to do ...")
    idle = {name: _as_pod(deployment, client, name) for name in ("measured", "measured_held")}
    idle_process = _as_process(hand, threads)
    for each in (*idle.values(), idle_process):
        del each["work"]  # its manifest is that of the shard as it was labelled
    del idle_process["rows"]
    ratio = round(pod["all"] / process["all"], 3)
    must(ratio <= _LONGEST_RATIO, f"a shard as a pod took {ratio} times that of a process")
    inferred = process["rows"]["inferred"]
    return {
        "rows": inferred,
        "threads_of_each": int(threads),
        "shard_as_pod": pod,
        "shard_as_process": process,
        "ratio": ratio,
        "ratio_of_processor_seconds": round(pod["processor_seconds"] / process["processor_seconds"], 3),
        "rows_a_second": round(inferred / process["work"], 1),
        "nothing_to_do_as_pod": idle["measured"],
        "nothing_to_do_as_pod_that_is_held": idle["measured_held"],
        "nothing_to_do_as_process": idle_process,
    }


_ONE_SHARD = {"LLAMBERT_SHARD_ROWS": str(_ROWS)}


def _drop(deployment: Deployment) -> None:
    """Put a day of texts that no other day has, each as long as the encoder reads."""
    reviews = read_corpus(REPOSITORY / ".models")
    texts = [" ".join(each.text for each in reviews[at : at + _REVIEWS_EACH]) for at in range(_ROWS)]
    lines = [json.dumps({"id": f"fat-{number}", "text": text}) for number, text in enumerate(texts)]
    key = f"{TASK}/{DAY}/reviews.jsonl"
    deployment.s3.client().put_object(Bucket="landing", Key=key, Body="\n".join(lines).encode())


def _as_pod(deployment: Deployment, client: AirflowClient, dag: str) -> dict[str, Any]:
    """Return the seconds of each part of a step's life, from its run's start to the task's end."""
    run = client.wait(client.trigger(dag, None, {"day": DAY, "run": _RUN}), deadline=1_200)
    assert run.state == "success", f"{dag}: {run.state}"
    step = _asked(client, run, "taskInstances/step")
    (pod,) = [each for each in deployment.seen.values() if each.run == run.run_id]
    started, ended = _moment(_asked(client, run, "")["start_date"]), _moment(step["end_date"])
    moments = pod.moments
    manifest = _asked(client, run, "taskInstances/step/xcomEntries/return_value")["value"]
    manifest = json.loads(manifest) if isinstance(manifest, str) else manifest
    parts = {
        "until_its_pod_was_made": moments["made"] - started,
        "until_it_had_a_node": moments["scheduled"] - moments["made"],
        "until_its_container_ran": moments["started"] - moments["scheduled"],
        "container": moments["ended"] - moments["started"],
        "until_its_task_was_done": ended - moments["ended"],
        "all": ended - started,
    }
    told = {name: round(seconds, 1) for name, seconds in parts.items()}
    log = client.log(run.dag, quote(run.run_id, safe=""), "step", number=step["try_number"])
    return {**told, "work": manifest["seconds"], "processor_seconds": _of_times(log), **_load()}


def _as_process(hand: ByHand, threads: str) -> dict[str, Any]:
    """Return how long a process took in all, and its manifest's account of the shard."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = hand("label", "--shard", "0", day=DAY, run=_RUN, more={"OMP_NUM_THREADS": threads})
    after, manifest = resource.getrusage(resource.RUSAGE_CHILDREN), hand.manifest
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    told = {"all": round(seconds, 1), "work": manifest["seconds"], "processor_seconds": round(processor, 1)}
    return {**told, "rows": manifest["rows"], **_load()}


def _threads(deployment: Deployment) -> str:
    """Return how many threads compute in the pod: what is to be compared with it may have no more."""
    pod = Kubernetes(image=deployment.image, steps={"label": WHOLE})
    return str(pod_arguments(pod, "label")["env_vars"]["OMP_NUM_THREADS"])


def _of_times(log: str) -> float:
    minutes, seconds, system_minutes, system_seconds = map(float, _TIMES.findall(log)[-1])
    return round(60 * (minutes + system_minutes) + seconds + system_seconds, 1)


def _load() -> dict[str, float]:
    return {"load_1_minute": round(os.getloadavg()[0], 2)}


def _asked(client: AirflowClient, run: Run, path: str) -> dict[str, Any]:
    found: dict[str, Any] = client.request(
        "GET", f"dags/{run.dag}/dagRuns/{quote(run.run_id, safe='')}/{path}".rstrip("/")
    )
    return found


def _moment(written: str) -> float:
    return datetime.datetime.fromisoformat(written).timestamp()
