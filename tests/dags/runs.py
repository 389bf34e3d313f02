"""Runs whole Dags of the test's deployment, to be called in a process of its own.

`dag.test()` leaves threads, event loops and sockets running, and a test sets variables that those may be reading.
"""

import json
from typing import Any
from unittest.mock import patch

import airflow.api_fastapi.execution_api.app
import airflow.sdk.execution_time.supervisor  # noqa: F401  what dag.test() imports late, so that a fork imports nothing
from airflow.models import dagrun
from airflow.models.asset import AssetEvent
from airflow.models.xcom import XComModel
from airflow.serialization.encoders import coerce_to_core_timetable
from airflow.utils.session import create_session

from tests.dags.deployed import build


def run_to_its_end(kind: str, partition: str | None, options: dict[str, Any]) -> None:
    """Print as JSON how a run ended. `dag.test()` takes no partition key: it is set on the run that it creates."""
    dag, create = build(kind), dagrun.get_or_create_dagrun

    def with_partition(*, session: Any, **arguments: Any) -> Any:
        created = create(session=session, **arguments)
        if partition:
            created.partition_key = partition
            created.partition_date = coerce_to_core_timetable(dag.timetable).resolve_partition_date(partition)
            session.flush()
        return created

    with patch.object(dagrun, "get_or_create_dagrun", with_partition):
        run = dag.test(logical_date=None, **options)
    with create_session() as session:
        events = session.query(AssetEvent).filter(AssetEvent.source_run_id == run.run_id).all()
        announced = [(event.asset.name, event.partition_key) for event in events]
        rows = session.query(XComModel).filter(XComModel.run_id == run.run_id, XComModel.map_index == -1).all()
        pushed = [(row.task_id, row.key, XComModel.deserialize_value(row)) for row in rows]
    states = {task.task_id: str(task.state) for task in run.get_task_instances()}
    print(json.dumps({"state": str(run.state), "states": states, "announced": announced, "pushed": pushed}))
