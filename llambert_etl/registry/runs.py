"""Runs of the tracking server: parameters, figures and files, finished or marked as failed."""

import contextlib
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXISTS = "RESOURCE_ALREADY_EXISTS"
# In place of a server, on one machine: what stands behind it is an absolute path.
FILE = "sqlite:///"


class RunMetric(NamedTuple):
    """One figure. `step` is the place on the horizontal axis of the server's charts."""

    name: str
    value: float
    step: int = 0


def log_run(
    client: "MlflowClient",
    experiment: str,
    tags: Mapping[str, str],
    name: str,
    params: Mapping[str, str | int | float],
    metrics: Iterable[RunMetric],
    folder: Path,
) -> str:
    """Return a finished run that holds every file of `folder`; one that was not finished is marked as failed."""
    from mlflow.entities import Metric, Param

    run_id: str = client.create_run(_experiment(client, experiment), tags=dict(tags), run_name=name).info.run_id
    try:
        now = int(time.time() * 1000)
        client.log_batch(
            run_id,
            metrics=[Metric(each.name, each.value, now, each.step) for each in metrics],
            params=[Param(key, str(value)) for key, value in params.items()],
        )
        client.log_artifacts(run_id, str(folder))
        client.set_terminated(run_id)
    except BaseException:
        with contextlib.suppress(Exception):
            client.set_terminated(run_id, "FAILED")
        raise
    return run_id


def find_run(client: "MlflowClient", experiment: str, tag: str, value: str) -> str | None:
    """Return the finished run with this tag, if there is one."""
    wanted = f"tags.`{tag}` = '{value}' and attributes.status = 'FINISHED'"
    found = client.search_runs([_experiment(client, experiment)], wanted, max_results=1)
    return found[0].info.run_id if found else None


def _experiment(client: "MlflowClient", name: str) -> str:
    from mlflow.exceptions import MlflowException

    if (found := client.get_experiment_by_name(name)) is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name, artifact_location=_artifacts(client.tracking_uri)))
    except MlflowException as error:
        # Another writer may have made it between the two requests.
        if error.error_code != EXISTS or (found := client.get_experiment_by_name(name)) is None:
            raise
        return str(found.experiment_id)


def _artifacts(uri: str) -> str | None:
    """Return where files go: beside the database where there is no server, for MLflow would take the current folder."""
    return f"{uri.removeprefix(FILE)}.artifacts" if uri.startswith(FILE) else None
