"""What `maintain` deletes beside the tables' own files, and when."""

import datetime
import os
import time
from pathlib import Path

import pytest

from llambert_etl.lake import Lake
from llambert_etl.settings import Settings
from llambert_etl.steps.maintain import maintain
from llambert_etl.store.folders import Folder, drop_old_folders

_DAY = 24 * 3600

# Below the lake or the state folder, after how many days it goes, and where that is counted.
LEFT = [
    ("lake/_reports/reviews/2026-11-10/labels-0123456789abcdef.html", 365, "reports"),
    ("lake/_studies/reviews/0123456789abcdef.json", 365, "studies"),
    ("state/_hub/google-bert/bert-base-uncased/0123/config.json", 28, "local copies"),
    ("state/steps/train-abcdefgh/err", 7, "local copies"),
    ("state/tmpabcdefgh/labels.parquet", 7, "local copies"),
    ("state/models/llambert.reviews/1/config.json", 7, "local copies"),
]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(lake=str(tmp_path / "lake"), state=tmp_path / "state")


@pytest.fixture
def lake(settings: Settings) -> Lake:
    made = Lake.from_settings(settings)
    made.create_tables()
    return made


def written(path: Path, days_ago: float) -> Path:
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    for each in (path, path.parent):
        os.utime(each, (0, time.time() - days_ago * _DAY))
    return path


@pytest.mark.parametrize(("place", "days", "counted_as"), LEFT, ids=[place.split("/")[1] for place, _, _ in LEFT])
def test_a_leftover_goes_when_it_is_old_and_not_before(
    lake: Lake, settings: Settings, tmp_path: Path, place: str, days: int, counted_as: str
) -> None:
    left = written(tmp_path / place, days - 1)
    assert maintain(lake=lake, settings=settings)[counted_as]["removed"] == 0
    for each in (left, left.parent):
        os.utime(each, (0, time.time() - (days + 1) * _DAY))
    assert maintain(lake=lake, settings=settings)[counted_as]["removed"] == 1
    assert not left.exists()


def test_a_folder_that_somebody_comes_to_need_while_old_ones_go_stays(lake: Lake, tmp_path: Path) -> None:
    folder = Folder(lake.storage, "_models", "reviews", "1")
    folder.seal({}, {})
    (listed,) = (tmp_path / "lake/_models/reviews/1").iterdir()
    os.utime(listed, (0, time.time() - 2 * _DAY))
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)

    def named(place: tuple[str, str]) -> bool:
        folder.touch()
        return False

    assert drop_old_folders(lake.storage, "_models", before, named) == 0
    assert folder.hashes() == {}


def test_a_scratch_folder_that_vanishes_meanwhile_is_no_fault(lake: Lake, settings: Settings) -> None:
    old = written(settings.candidates / "reviews" / "a1" / "config.json", 8)
    (old.parent.parent / "tmpgone").symlink_to("nowhere")
    assert maintain(lake=lake, settings=settings)["local copies"]["removed"] == 1


def test_what_a_person_keeps_in_the_state_folder_stays(lake: Lake, settings: Settings) -> None:
    kept = written(settings.state / "studies" / "reviews" / "size" / "table.md", 1_000)
    maintain(lake=lake, settings=settings)
    assert kept.exists()
