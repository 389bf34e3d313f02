"""What the demo reads back from the tables."""

from pathlib import Path

import pyarrow as pa
import pytest

from laptop.airflow_client import Run
from laptop.demo.data import DAYS
from laptop.demo.follow import StepRecord
from laptop.demo.gather import Watched, last_night, runs_of_labels
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.schemas import TABLES
from tests.given.tasks import make_task

TASK = make_task()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path))
    lake.create_tables()
    rows = [
        dict.fromkeys(TABLES["labels"].schema.names)
        | {"task": TASK.name, "partition": DAYS[0], "id": str(number), "run": run}
        for number, run in enumerate(("listed", "listed", "by hand"))
    ]
    staged = lake.stage("labels", TASK.name, DAYS[0], [pa.Table.from_pylist(rows, TABLES["labels"].schema)], name="x")
    manifest = Manifest(step="publish", task=TASK.name, partition=DAYS[0], run="listed")
    lake.replace_partition("labels", TASK.name, DAYS[0], staged, commit_key="x", manifest=manifest)
    return lake


def watched(*steps: StepRecord, runs: tuple[Run, ...] = ()) -> Watched:
    return Watched({}, steps, runs, {})


def test_a_row_of_labels_whose_run_airflow_does_not_list_is_told(lake: Lake) -> None:
    listed = Run(f"{TASK.name}__label", "listed", "success", "asset_triggered", DAYS[0])
    runs = runs_of_labels(TASK, lake, watched(runs=(listed,)))
    assert runs.rows_by_kind == {"asset_triggered": 2, "unlisted": 1}
    assert runs.unlisted == ["by hand"]


def test_last_night_counts_its_own_day_only() -> None:
    def labelled(day: str, inferred: int) -> StepRecord:
        rows = {"read": 10, "inferred": inferred, "reused": 10 - inferred}
        manifest = Manifest(step="label", task=TASK.name, partition=day, run="r", rows=rows)
        return StepRecord(f"{TASK.name}__label", "r", day, "label_shard", "success", 2.0, manifest)

    night = last_night(watched(labelled(DAYS[0], 10), labelled(DAYS[-1], 9)))
    assert (night.documents, night.inferred, night.reused, night.llm_calls, night.seconds) == (10, 9, 1, 0, 2.0)
