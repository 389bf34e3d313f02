"""Dags whose only step labels the first shard of a plan, as a pod that has all of a node's processors."""

import json
import os

from airflow.sdk import DAG, Param

from llambert_etl.config import find_task
from llambert_etl.orchestration import commands
from llambert_etl.orchestration.commands import EXECUTABLE
from llambert_etl.orchestration.kubernetes import PodStep
from llambert_etl.orchestration.pod_spec import pod_arguments
from llambert_etl.orchestration.steps import default_arguments
from llambert_etl.settings import load_settings

settings = load_settings()
task = find_task(settings.include, os.environ["VERIFY_TASK"])
label = {**settings.kubernetes.steps["label"], **json.loads(os.environ["VERIFY_MEASURED"])}
_TIMED = f'{EXECUTABLE} "$@"; code=$?; times; exit $code'

for name, deferrable in (("measured", True), ("measured_held", False)):
    steps = {**settings.kubernetes.steps, "label": {**label, "deferrable": deferrable}}
    words = commands.step("label", task, "--shard", "0", partition="{{ params.day }}", run="{{ params.run }}")
    with DAG(
        dag_id=name,
        schedule=None,
        default_args=default_arguments("verify"),
        params={"day": Param("", type="string"), "run": Param("", type="string")},
    ) as dag:
        options = pod_arguments(settings.kubernetes.model_copy(update={"steps": steps}), "label")
        options["cmds"] = ["/bin/sh", "-c", _TIMED, EXECUTABLE]
        PodStep(task_id="step", arguments=words, task_name=task.name, **options)
    globals()[name] = dag
