"""Lakes that earlier versions have written: every step reads them and goes on from there."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from llambert_etl.corpus.documents import as_of
from llambert_etl.corpus.gold import known_gold
from llambert_etl.lake import Lake
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.steps.explain import explain
from llambert_etl.steps.maintain import maintain
from llambert_etl.steps.publish import publish
from tests.given.annotating import RuleAnnotator, even, ingest, run_annotate
from tests.given.golden_lake import GOLDEN, TASK, settings_of
from tests.given.labelling import DAY, NEXT, Shelf, label_run, labels


@pytest.fixture(params=sorted(GOLDEN.iterdir()), ids=lambda folder: folder.name)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of a copy, whose files are as young as those of a run that was upgraded in its middle."""
    shutil.copytree(request.param, tmp_path / "lake", copy_function=shutil.copyfile)
    return settings_of(tmp_path / "lake")


@pytest.fixture
def lake(settings: Settings) -> Lake:
    lake = Lake.from_settings(settings)
    lake.create_tables()
    return lake


def test_what_was_written_is_read(lake: Lake) -> None:
    assert sorted(as_of(lake, TASK.name, NEXT).collect()["text"]) == [f"text {n}" for n in range(7)]
    assert known_gold(TASK, lake, DAY)["label"].to_list() == ["negative"]
    assert labels(lake, TASK) == {f"id-text {n}": (TASK.label_names[ord(str(n)) % 2], 1) for n in range(4)}
    last = lake.last_commit("labels", TASK.name, DAY)
    assert last is not None
    assert last.manifest is not None
    assert (last.manifest.step, last.manifest.rows["read"], last.manifest.facts["move"]) == ("publish", 4, 1)
    assert lake.scan("reviews", TASK.name).collect()["stratum"].to_list() == ["random"]
    assert explain(TASK, "id-text 1", lake=lake)


def test_what_was_done_is_not_done_again(lake: Lake, settings: Settings) -> None:
    before = {table: lake.version(table) for table in ("documents", "annotations", "labels", "promotions")}
    ingest(lake, TASK, DAY, range(4))
    annotator = RuleAnnotator(even)
    run_annotate(lake, annotator)
    manifest, _ = label_run(lake, TASK, Shelf(TASK, 1), settings, run="r3")
    assert (annotator.asked, manifest.facts["fresh"]) == ([], True)
    assert {table: lake.version(table) for table in before} == before  # type: ignore[arg-type]


def test_a_run_that_an_earlier_version_has_staged_is_published(lake: Lake) -> None:
    publish(Run(TASK, NEXT, "r2"), lake=lake)
    assert sorted(labels(lake, TASK, NEXT)) == ["id-text 4", "id-text 5", "id-text 6"]


def test_the_work_goes_on(lake: Lake, settings: Settings) -> None:
    annotator = RuleAnnotator(even)
    run_annotate(lake, annotator, partition=NEXT)
    assert sorted(annotator.asked) == ["text 4", "text 5", "text 6"]
    ingest(lake, TASK, DAY, range(5))
    _, classifier = label_run(lake, TASK, Shelf(TASK, 1), settings, run="r3")
    assert classifier.asked == ["text 4"]
    merged = maintain(lake=lake, settings=settings)
    assert merged["annotations"]["merged"] == 0, "one file a day"
    assert merged["labels"]["merged"] == 2
    assert len(labels(lake, TASK)) == 5
    lake.restore("labels", 1)
    assert len(labels(lake, TASK)) == 4
    assert lake.scan("annotations", TASK.name).select(pl.len()).collect().item() == 7
