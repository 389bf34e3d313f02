"""The backup of docs/production.md: taken, everything lost, put back, and a night on it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from laptop.airflow_client import AirflowClient
from tests.verify_kubernetes.deployment import BUCKETS, DATABASES, Deployment

_KEPT = tuple(bucket for bucket in BUCKETS if bucket != "landing")  # that is whoever drops files


def take(deployment: Deployment) -> Path:
    """Return a folder with a dump of each database and a copy of each bucket; nothing may write meanwhile."""
    folder = deployment.folder / "backup"
    folder.mkdir()
    for name in DATABASES:
        deployment.postgres.dump(name, folder / f"{name}.dump")
    client = deployment.s3.client()
    for bucket in _KEPT:
        for key in _keys(client, bucket):
            path = folder / bucket / key
            path.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, key, str(path))
    return folder


def lose(deployment: Deployment) -> None:
    """Delete what was backed up. Airflow must have been stopped."""
    deployment.mlflow.stop()
    for name in DATABASES:
        deployment.postgres.drop(name)
    client = deployment.s3.client()
    for bucket in _KEPT:
        for key in _keys(client, bucket):
            client.delete_object(Bucket=bucket, Key=key)
        assert not list(_keys(client, bucket))


def put_back(deployment: Deployment, folder: Path) -> None:
    client = deployment.s3.client()
    for bucket in _KEPT:
        for path in (folder / bucket).rglob("*"):
            if path.is_file():
                client.upload_file(str(path), bucket, str(path.relative_to(folder / bucket)))
    for name in DATABASES:
        deployment.postgres.restore(name, folder / f"{name}.dump")
    deployment.mlflow.start()


def history(client: AirflowClient) -> set[str]:
    """Return all runs that Airflow knows of."""
    return {run.run_id for dag in client.dags() for run in client.runs(dag)}


def _keys(client: Any, bucket: str) -> Iterator[str]:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        yield from [entry["Key"] for entry in page.get("Contents", [])]
