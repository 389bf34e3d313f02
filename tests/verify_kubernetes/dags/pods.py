"""One Dag for each kind of pod; its only step runs the shell script that a run is given in place of `llambert`."""

import datetime
import json
import os

from airflow.sdk import DAG, Param

from llambert_etl.config.pods import Kubernetes
from llambert_etl.orchestration.kubernetes import PodStep
from llambert_etl.orchestration.pod_spec import pod_arguments
from llambert_etl.orchestration.steps import default_arguments

KINDS = json.loads(os.environ["VERIFY_KINDS"])

for name, own in KINDS.items():
    changes = dict(own)
    timeout = changes.pop("execution_seconds", None)
    settings = Kubernetes.model_validate({**json.loads(os.environ["VERIFY_POD"]), **changes})
    with DAG(
        dag_id=name,
        schedule=None,
        default_args=default_arguments("verify"),
        params={"script": Param("exit 78", type="string")},
    ) as dag:
        options = {**pod_arguments(settings, "train"), "cmds": ["/bin/sh", "-c"]}
        if timeout:
            options["execution_timeout"] = datetime.timedelta(seconds=timeout)
        words = ["{{ params.script }}", "step", "{{ ti.try_number }}"]
        PodStep(task_id="step", arguments=words, task_name="verify", **options)
    globals()[name] = dag
