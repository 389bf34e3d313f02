"""A pod with nothing to do, in turns with that of an earlier commit: an image and an Airflow of each, one cluster."""

import compileall
import json
import statistics
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import copytree
from typing import Any, NamedTuple

from benchmarks.scale.trees import OURS, PEER, Tree, peer, run_command, run_step
from laptop import seaweed
from laptop.airflow import PORTS, Airflow
from laptop.airflow_client import AirflowClient
from laptop.credentials import credentials_of
from laptop.demo.data import read_corpus
from laptop.ports import free_ports
from laptop.stack import REPOSITORY
from llambert_etl.partition import Partition
from tests.verify_kubernetes.cluster import Cluster
from tests.verify_kubernetes.deployment import TASK
from tests.verify_kubernetes.loop import Say
from tests.verify_kubernetes.overhead import RUN, as_pod
from tests.verify_kubernetes.world import postgres

_DAY = Partition("2026-11-10")
_ROWS = 100
_ROUNDS = 5
_DAG = "idle"
_LOAD = "load_1_minute"
# One pod at a time has the node for itself.
_POD = {"gpus": 0, "cpu": "1900m", "memory": "2Gi", "scratch": "1Gi"}


class _Side(NamedTuple):
    """One of both commits: its code, its worker image, and the settings of its pods on a lake of its own."""

    name: str
    tree: Tree
    image: str
    settings: Mapping[str, str]

    @property
    def include(self) -> str:
        return str(self.tree.root / "include")


class _Shared(Cluster):
    """The namespace of both, and an S3."""

    def __init__(self, image: str, folder: Path, address: str) -> None:
        super().__init__(image)
        ports = dict(zip(seaweed.PORTS, free_ports(len(seaweed.PORTS)), strict=True))
        buckets = ("landing", "warehouse")
        self.s3 = seaweed.SeaweedFS(folder / "servers", ports, credentials_of(folder / "servers"), buckets, address)

    def side(self, name: str, tree: Tree, image: str) -> _Side:
        """Return a side whose pods find its settings."""
        settings = {
            "LLAMBERT_LAKE": f"s3://warehouse/{name}",
            "LLAMBERT_SOURCES": '["s3://landing/"]',
            "LLAMBERT_S3_ENDPOINT": self.s3.endpoint,
            "LLAMBERT_S3_REGION": seaweed.REGION,
            "LLAMBERT_S3_ACCESS_KEY_ID": self.s3.access_key,
            "LLAMBERT_S3_SECRET_ACCESS_KEY": self.s3.secret_key,
        }
        self.api.create_namespaced_config_map(self.namespace, {"metadata": {"name": name}, "data": settings})
        return _Side(name, tree, image, settings)


def side_by_side(image: str, earlier: str, address: str, folder: Path, say: Say) -> dict[str, Any]:
    """Return what a pod step of either commit costs that has nothing to do, told apart."""
    with ExitStack() as stack:
        shared = _Shared(image, folder, address)
        stack.callback(shared.s3.stop)
        shared.s3.start()
        stack.enter_context(shared)
        lines = [json.dumps({"id": each.id, "text": each.text}) for each in read_corpus(REPOSITORY / ".models")[:_ROWS]]
        key = f"{TASK}/{_DAY}/reviews.jsonl"
        shared.s3.client().put_object(Bucket="landing", Key=key, Body="\n".join(lines).encode())
        trees = {"earlier": (stack.enter_context(peer()), earlier), "now": (OURS, image)}
        clients: dict[str, AirflowClient] = {}
        for name, (tree, its_image) in trees.items():
            side = shared.side(name, tree, its_image)
            _labelled(side, folder)
            clients[name] = stack.enter_context(_airflow(side, shared.namespace, folder / name))
            say(f"Airflow of {tree.name} is up")
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in clients}
        for number in range(_ROUNDS + 1):
            for name, client in clients.items():
                seconds = as_pod(shared, client, _DAG, _DAY)
                del seconds["work"]  # its manifest is that of the shard as it was labelled
                say(f"{name}: {seconds}")
                if number:  # at first both read their code from the disk
                    found[name].append(seconds)
    return _told(found)


def _labelled(side: _Side, folder: Path) -> None:
    """Ingest, plan and label a day by the side's own code, with an encoder that costs nothing: a pod loads none."""
    # This machine may be told to keep no compiled code; neither side is to compile its own in every task.
    assert compileall.compile_dir(side.tree.root / "llambert_etl", quiet=1)
    own = {"LLAMBERT_STATE": str(folder / f"{side.name}-state"), "LLAMBERT_INCLUDE": side.include}
    environment = {**side.settings, **own}
    run_command(side.tree, environment, "init")
    run_command(side.tree, environment, "ingest", "--task", TASK, "--partition", _DAY, "--run", RUN)
    for step, options in (("plan", {"shard_rows": _ROWS, "max_shards": 1}), ("label", {"shards": "0"})):
        run_step(side.tree, environment, step, task=TASK, day=_DAY, run=RUN, **options)


@contextmanager
def _airflow(side: _Side, namespace: str, folder: Path) -> Iterator[AirflowClient]:
    """Run an Airflow whose only Dag is that of `beside_dags`, with the side's code."""
    root = folder / "root"
    (root / "plugins").mkdir(parents=True)
    copytree(Path(__file__).parent / "beside_dags", root / "dags")
    for path in (folder.parent, folder, folder / "postgres"):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)  # PostgreSQL may run as another user
    pod = {**_POD, "image": side.image, "namespace": namespace, "config_map": side.name}
    environment = {
        **side.settings,
        "LLAMBERT_STATE": str(folder / "state"),
        "LLAMBERT_INCLUDE": side.include,
        "LLAMBERT_COMPUTE": "kubernetes",
        **{f"LLAMBERT_KUBERNETES__{name.upper()}": str(value) for name, value in pod.items()},
        "VERIFY_TASK": TASK,
        "PYTHONPATH": str(side.tree.root),
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
    }
    with postgres(folder / "postgres") as database:
        ports = {PORTS[0]: free_ports(1)[0]}
        airflow = Airflow(folder, ports, credentials_of(folder), root=root, environment=environment, database=database)
        airflow.start()
        try:
            with airflow.client() as client:
                client.wait_for("the Dag", lambda: _DAG in client.dags(), deadline=120)
                client.unpause(_DAG)
                yield client
        finally:
            airflow.stop()


def _told(found: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    def of(choose: Any) -> dict[str, dict[str, float]]:
        return {
            name: {part: round(choose([each[part] for each in rounds]), 2) for part in rounds[0] if part != _LOAD}
            for name, rounds in found.items()
        }

    medians, quickest = of(statistics.median), of(min)
    return {
        "earlier_commit": PEER,
        "rounds": dict(found),
        "medians": medians,
        "quickest_of_each_part": quickest,
        "ratio_of_the_medians": round(medians["now"]["all"] / medians["earlier"]["all"], 3),
        "ratio_of_the_quickest": round(quickest["now"]["all"] / quickest["earlier"]["all"], 3),
    }
