"""Label runs and `maintain`: what a run has staged is published whole, or the run is told what to do again."""

import os
from pathlib import Path

import pytest

from llambert_etl.errors import ConfigError, DataError
from llambert_etl.labelling.plan import Plan, read_plan
from llambert_etl.lake import RETENTION, Lake
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.steps.check import check_labels
from llambert_etl.steps.maintain import maintain
from llambert_etl.steps.plan import plan
from llambert_etl.steps.publish import publish
from tests.given.labelling import DAY, Parity, Shelf, drop, finish, label_run, labels, run_shards
from tests.given.tasks import make_task

TASK = make_task()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        lake=str(tmp_path / "lake"),
        include=tmp_path,
        state=tmp_path / "state",
        shard_rows=4,
        max_shards=3,
        shard_overhead_seconds=0,
    )


@pytest.fixture
def lake(settings: Settings) -> Lake:
    """A lake in a folder, where a file can be given an age, with a day that is labelled and has new documents."""
    lake = Lake.from_settings(settings)
    lake.create_tables()
    drop(lake, TASK, ["served"])
    label_run(lake, TASK, Shelf(TASK, 1), settings, run="before")
    drop(lake, TASK, [f"text {n}" for n in range(12)], key="more")
    return lake


def planned(lake: Lake, settings: Settings, run: str = "r1") -> Plan:
    plan(Run(TASK, DAY, run), lake=lake, registry=Shelf(TASK, 1), settings=settings)  # type: ignore[arg-type]
    return read_plan(lake, TASK.name, DAY, run)


def staged(lake: Lake) -> list[Path]:
    """Return the Parquet files of `labels` that no version names."""
    live = set(lake.open("labels").file_uris())
    return sorted(file for file in Path(lake.uri, "labels").glob("task=*/*/*.parquet") if str(file) not in live)


def notes(lake: Lake, name: str) -> list[Path]:
    return sorted(path for path in Path(lake.uri, "_staging", TASK.name).rglob(name) if path.is_file())


def grow_old(*paths: Path, days: int = RETENTION.days + 1) -> None:
    for path in paths:
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - days * 24 * 3600))


@pytest.mark.parametrize("damage", ["gone", "cut"])
@pytest.mark.parametrize("step", ["check", "publish"])
def test_a_shard_whose_file_is_lost_is_named_and_can_be_labelled_again(
    lake: Lake, settings: Settings, damage: str, step: str
) -> None:
    planned(lake, settings)
    run_shards(lake, TASK, settings, DAY, "r1", Parity(2))
    if step == "publish":
        check_labels(Run(TASK, DAY, "r1"), lake=lake, prompt_hash="p")
    (lost,) = Path(lake.uri, "labels").glob("task=*/*/shard-1-*.parquet")
    lost.unlink() if damage == "gone" else os.truncate(lost, 100)
    with pytest.raises(DataError, match=r"shards \[1\] are not staged, or their files are gone.*--run 'r1'"):
        finish(lake, TASK, DAY, "r1") if step == "check" else publish(Run(TASK, DAY, "r1"), lake=lake)
    assert len(labels(lake, TASK)) == 1, "what was served stays served"
    again = Parity(2)
    run_shards(lake, TASK, settings, DAY, "r1", again)
    assert 0 < len(again.asked) < 12, "only the lost shard is labelled again"
    finish(lake, TASK, DAY, "r1")
    assert len(labels(lake, TASK)) == 12


def test_a_run_planned_before_the_retention_is_refused_and_can_be_planned_again(lake: Lake, settings: Settings) -> None:
    planned(lake, settings)
    run_shards(lake, TASK, settings, DAY, "r1", Parity(2))
    check_labels(Run(TASK, DAY, "r1"), lake=lake, prompt_hash="p")
    grow_old(*notes(lake, "plan.json"))
    with pytest.raises(ConfigError, match=r"'r1' .*has no plan: run `llambert plan` .*, for a plan counts for 7 days"):
        publish(Run(TASK, DAY, "r1"), lake=lake)
    planned(lake, settings)
    finish(lake, TASK, DAY, "r1")
    assert len(labels(lake, TASK)) == 12


def test_a_plan_that_is_gone_on_with_keeps_its_age(lake: Lake, settings: Settings) -> None:
    planned(lake, settings)
    (note,) = notes(lake, "plan.json")[-1:]
    grow_old(*notes(lake, "plan.json"), days=1)
    before = note.stat().st_mtime
    planned(lake, settings)
    assert note.stat().st_mtime == before


def test_maintain_leaves_the_files_of_a_run_that_may_be_published(lake: Lake, settings: Settings) -> None:
    planned(lake, settings)
    run_shards(lake, TASK, settings, DAY, "r1", Parity(2))
    check_labels(Run(TASK, DAY, "r1"), lake=lake, prompt_hash="p")
    files = staged(lake)
    grow_old(*files, days=20)
    maintain(lake=lake, settings=settings)
    assert staged(lake) == files != []
    publish(Run(TASK, DAY, "r1"), lake=lake)
    assert len(labels(lake, TASK)) == 12


def test_maintain_drops_an_old_run_whole_its_notes_and_its_files(lake: Lake, settings: Settings) -> None:
    planned(lake, settings)
    run_shards(lake, TASK, settings, DAY, "r1", Parity(2))
    files = staged(lake)
    written = notes(lake, "*")
    grow_old(*files, *written)
    removed = maintain(lake=lake, settings=settings)
    assert (removed["staging notes"]["removed"], removed["labels"]["removed"]) == (len(written), len(files))
    assert (staged(lake), notes(lake, "*")) == ([], [])
    label_run(lake, TASK, Shelf(TASK, 1), settings)
    assert len(labels(lake, TASK)) == 12
