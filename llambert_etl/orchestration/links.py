"""The links of a task instance: its MLflow page, its Data Docs and the partition that it works on.

A link is made in the worker when the step ends, also when it failed: a refused gate is what somebody wants to read.
"""

from typing import Protocol, cast, runtime_checkable
from urllib.parse import quote

from airflow.sdk import BaseOperator, BaseOperatorLink, conf
from airflow.sdk.types import TaskInstanceKey

from llambert_etl.facts import Linked
from llambert_etl.pages import report_name

PAGES = "/llambert"


@runtime_checkable
class Step(Protocol):
    """What an operator knows about its step once it has run."""

    task_name: str
    report: str
    mlflow_uri: str
    partition: str
    made: Linked


class MlflowLink(BaseOperatorLink):
    """The MLflow run that the step made, else the model version that it used, else the task's models."""

    name = "MLflow"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        step = cast(Step, operator)
        if not step.mlflow_uri or not step.task_name:
            return ""
        ui = f"{step.mlflow_uri.rstrip('/')}/#"
        made, model = step.made, f"llambert.{step.task_name}"
        if made.mlflow_run:
            return f"{ui}/{made.mlflow_run}"
        if made.model_version is not None:
            return f"{ui}/models/{model}/versions/{made.model_version}"
        return f"{ui}/models/{model}"


class DataDocsLink(BaseOperatorLink):
    """The report of the gate in this run. Every step of the run has it, for each of them depends on that gate."""

    name = "Data Docs"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        step = cast(Step, operator)
        return _page("reports", step, report_name(step.report, str(ti_key.run_id))) if step.report else ""


class PartitionLink(BaseOperatorLink):
    """What the labels of this partition are now, and where they lie."""

    name = "Labelled partition"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        return _page("partitions", cast(Step, operator))


LINKS = (MlflowLink(), DataDocsLink(), PartitionLink())


def _page(kind: str, step: Step, *more: str) -> str:
    if not step.task_name or not step.partition:
        return ""
    base = conf.get("api", "base_url", fallback="") or ""
    return "/".join(
        [
            f"{base.rstrip('/')}{PAGES}",
            kind,
            *(quote(part, safe="") for part in (step.task_name, step.partition, *more)),
        ]
    )
