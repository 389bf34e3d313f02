"""What the benchmarks make of what lies in their lake."""

from pathlib import Path

import polars as pl

from benchmarks.quality import read
from benchmarks.world import DAY, World
from laptop.stack import REPOSITORY
from llambert_etl.lake import Lake
from llambert_etl.llm.prompts import prompt_hash
from llambert_etl.settings import Settings
from tests.given.tasks import make_task
from tests.unit.quality import frames


def test_labels_of_the_model_that_annotated_before_are_not_counted(tmp_path: Path) -> None:
    task = make_task()
    settings = Settings(lake=str(tmp_path), include=REPOSITORY / "include", model_orgs=["tests"])
    lake = Lake(settings.lake)
    lake.create_tables()
    frames.put(lake, "documents", frames.documents(task, 8), task, day=DAY)
    asked = {"prompt_hash": prompt_hash(task, settings.include)}
    said = [{**row, **asked, "label": "positive"} for row in frames.annotations(task, 8)]
    before = [{**row, "model": "tests/older", "label": "negative"} for row in said]
    frames.put(lake, "annotations", [*before, *said], task, day=DAY)
    truth = pl.DataFrame({"id": [f"d{number}" for number in range(8)], "truth": ["positive"] * 8})
    found = read(World(task, settings, lake, truth, truth.head(0)), task, labels=8, seed=1)
    assert found.llm["label"].to_list() == ["positive"] * 8
