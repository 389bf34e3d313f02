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
from llambert_etl.partition import Partition
from tests.verify_kubernetes.cluster import Cluster
from tests.verify_kubernetes.deployment import TASK, Deployment, llambert
from tests.verify_kubernetes.loop import ByHand, Say

# After every night: no training counts their documents. A text is as many reviews of the corpus, more than the encoder
# reads; a text that is there twice would be labelled once.
_DAYS = {Partition("2026-11-20"): 3, Partition("2026-11-21"): 4}
_ROWS = 12_000
RUN = "measured"
_LONGEST_RATIO = 1.3
# What the shell's `times` says last: user and system seconds of the processes that it has waited for.
_TIMES = re.compile(r"(\d+)m([\d.]+)s (\d+)m([\d.]+)s")


def measure(
    deployment: Deployment, client: AirflowClient, hand: ByHand, say: Say, must: Callable[[bool, str], None]
) -> dict[str, Any]:
    """Label two fat shards as a pod and as a process in turns, then one again, when there is nothing left to do."""
    pods, processes = [], []
    for day, reviews_each in _DAYS.items():
        _drop(deployment, day, reviews_each)
        for environment in (variables(deployment.settings), hand.environment):
            for name in ("ingest", "plan"):
                words = (name, "--task", TASK, "--partition", day, "--run", RUN)
                llambert(*words, environment={**environment, "LLAMBERT_SHARD_ROWS": str(_ROWS)})
        say("a fat shard as a pod ...")
        pods.append(as_pod(deployment, client, "measured", day))
        say(f"{pods[-1]}; as a process ...")
        processes.append(_as_process(hand, day))
        say(f"{processes[-1]}")
        must(processes[-1]["rows"]["inferred"] == _ROWS, f"{processes[-1]['rows']} of {_ROWS} texts")
    say("and with nothing left to do ...")
    idle = {name: as_pod(deployment, client, name, day) for name in ("measured", "measured_held")}
    idle_process = _as_process(hand, day)
    for each in (*idle.values(), idle_process):
        del each["work"]  # its manifest is that of the shard as it was labelled
    del idle_process["rows"]
    # Whatever else runs on the machine lengthens each, so the quicker of both is nearer to what it costs.
    ratio = _ratio(pods, processes, "all")
    must(ratio <= _LONGEST_RATIO, f"a shard as a pod took {ratio} times that of a process")
    return {
        "rows": _ROWS,
        "threads_of_each": int(deployment.threads),
        "shards_as_pods": pods,
        "shards_as_processes": processes,
        "ratio_of_the_quicker_ones": ratio,
        "ratio_of_their_processor_seconds": _ratio(pods, processes, "processor_seconds"),
        "rows_a_second": round(_ROWS / min(each["work"] for each in processes), 1),
        "nothing_to_do_as_pod": idle["measured"],
        "nothing_to_do_as_pod_that_is_held": idle["measured_held"],
        "nothing_to_do_as_process": idle_process,
    }


def _ratio(pods: list[dict[str, Any]], processes: list[dict[str, Any]], seconds: str) -> float:
    quicker = [min(float(each[seconds]) for each in both) for both in (pods, processes)]
    return round(quicker[0] / quicker[1], 3)


def _drop(deployment: Deployment, day: Partition, reviews_each: int) -> None:
    """Put a day of texts that no other day has, each as long as the encoder reads."""
    reviews = read_corpus(REPOSITORY / ".models")
    texts = [" ".join(each.text for each in reviews[at : at + reviews_each]) for at in range(_ROWS)]
    lines = [json.dumps({"id": f"fat-{day}-{number}", "text": text}) for number, text in enumerate(texts)]
    key = f"{TASK}/{day}/reviews.jsonl"
    deployment.s3.client().put_object(Bucket="landing", Key=key, Body="\n".join(lines).encode())


def as_pod(cluster: Cluster, client: AirflowClient, dag: str, day: Partition) -> dict[str, Any]:
    """Return the seconds of each part of a step's life, from its run's start to the task's end."""
    run = client.wait(client.trigger(dag, None, {"day": day, "run": RUN}), deadline=1_200)
    assert run.state == "success", f"{dag}: {run.state}"
    step = _asked(client, run, "taskInstances/step")
    (pod,) = [each for each in cluster.seen.values() if each.run == run.run_id]
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


def _as_process(hand: ByHand, day: Partition) -> dict[str, Any]:
    """Return how long a process took in all, and its manifest's account of the shard."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = hand("label", "--shard", "0", day=day, run=RUN)
    after, manifest = resource.getrusage(resource.RUSAGE_CHILDREN), hand.manifest
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    told = {"all": round(seconds, 1), "work": manifest["seconds"], "processor_seconds": round(processor, 1)}
    return {**told, "rows": manifest["rows"], **_load()}


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
