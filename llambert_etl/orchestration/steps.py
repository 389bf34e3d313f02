"""Turns a step into an Airflow task: a local process, or a pod where the settings say so and the step is heavy."""

import datetime
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from airflow.sdk import BaseOperator, Context, XComArg
from airflow.sdk.definitions.mappedoperator import MappedOperator

from llambert_etl.config import LabellingTask
from llambert_etl.config.pods import StepName
from llambert_etl.orchestration.local import LocalStep
from llambert_etl.orchestration.retry import RETRIES, ExitCodePolicy
from llambert_etl.settings import Settings

GPU_POOL = "gpu"
REGISTRY_POOL = "registry"
POOLS: Mapping[str, str] = {
    GPU_POOL: "Steps that load a model: as many as there are devices",
    REGISTRY_POOL: "Promotions: one slot, for MLflow's aliases know no compare-and-set",
}

_RETRY_DELAY = datetime.timedelta(minutes=1)
_SHORT = datetime.timedelta(hours=2)
_LONG = datetime.timedelta(hours=24)

Hook = Callable[[Context, Any], None]


def default_arguments(owner: str) -> dict[str, Any]:
    """Return what every task of every Dag has."""
    return {
        "owner": owner,
        "retries": RETRIES,
        "retry_delay": _RETRY_DELAY,
        "retry_policy": ExitCodePolicy(),
        "execution_timeout": _SHORT,
    }


class Steps(NamedTuple):
    """Makes the tasks of one Dag. `report` is the gate whose Data Docs its runs write."""

    task: LabellingTask
    settings: Settings
    report: str

    def light(self, task_id: str, arguments: list[str], **options: Any) -> LocalStep:
        """A step that only reads and writes tables: always a process on the worker."""
        return LocalStep(task_id=task_id, arguments=arguments, **self._local(), **options)

    def mapped_light(self, task_id: str, arguments: XComArg, **options: Any) -> MappedOperator:
        """A light step for each argv that an earlier task returns."""
        named = "{{ task.partition }}"
        local = LocalStep.partial(task_id=task_id, map_index_template=named, **self._local(), **options)
        return local.expand(arguments=arguments)

    def long(self, step: StepName, arguments: list[str], **options: Any) -> BaseOperator:
        """A step that takes hours and loads no model: a pod without a GPU where there is a cluster."""
        operator, own = self._apart(step, device=False)
        return operator(task_id=step, arguments=arguments, **{**own, **options})

    def heavy(self, step: StepName, arguments: list[str], **options: Any) -> BaseOperator:
        """A step that loads a model."""
        operator, own = self._apart(step)
        return operator(task_id=step, arguments=arguments, pool=GPU_POOL, **{**own, **options})

    def mapped(self, task_id: str, arguments: XComArg) -> MappedOperator:
        """Label one shard for each argv that an earlier task returns."""
        operator, own = self._apart("label")
        named = "{{ task.arguments[-2:] | join(' ') }}"
        shard = operator.partial(task_id=task_id, pool=GPU_POOL, map_index_template=named, **own)
        return shard.expand(arguments=arguments)

    def _apart(self, step: StepName, *, device: bool = True) -> tuple[type[BaseOperator], dict[str, Any]]:
        if self.settings.compute == "local":
            return LocalStep, {"execution_timeout": _LONG, **self._local()}
        # Only a deployment with a cluster pays for importing its client.
        from llambert_etl.orchestration.kubernetes import PodStep
        from llambert_etl.orchestration.pod_spec import pod_arguments

        return PodStep, {**self._links(), **pod_arguments(self.settings.kubernetes, step, device=device)}

    def _local(self) -> dict[str, str]:
        return {"state": str(self.settings.state), **self._links()}

    def _links(self) -> dict[str, str]:
        return {"task_name": self.task.name, "report": self.report, "mlflow_uri": self.settings.mlflow_uri}
