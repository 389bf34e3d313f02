"""A Dag whose only step labels a shard that is labelled, as a pod; for the code of this tree and of an earlier one."""

import datetime
import os

from airflow.sdk import DAG, Param

from llambert_etl.config import find_task
from llambert_etl.orchestration import commands
from llambert_etl.orchestration.commands import EXECUTABLE
from llambert_etl.orchestration.kubernetes import PodStep
from llambert_etl.orchestration.steps import default_arguments
from llambert_etl.settings import load_settings

settings = load_settings()
try:
    from llambert_etl.orchestration.pod_spec import pod_arguments

    options = pod_arguments(settings.kubernetes, "label")
except ImportError:  # an earlier tree, which had it elsewhere, and another one's timeout
    from llambert_etl.orchestration import kubernetes

    options = {**kubernetes.pod_arguments(settings.kubernetes), "execution_timeout": datetime.timedelta(hours=24)}  # type: ignore[attr-defined]

task = find_task(settings.include, os.environ["VERIFY_TASK"])
_TIMED = f'{EXECUTABLE} "$@"; code=$?; times; exit $code'

with DAG(
    dag_id="idle",
    schedule=None,
    default_args=default_arguments("verify"),
    params={"day": Param("", type="string"), "run": Param("", type="string")},
) as dag:
    PodStep(
        task_id="step",
        arguments=commands.step("label", task, "--shard", "0", partition="{{ params.day }}", run="{{ params.run }}"),
        task_name=task.name,
        **{**options, "cmds": ["/bin/sh", "-c", _TIMED, EXECUTABLE]},
    )
