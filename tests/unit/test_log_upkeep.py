"""The log of a table stays small: old checkpoints go, and every version and manifest that is promised can be read."""

import itertools
import os
import shutil
import time
from pathlib import Path

import pytest

from llambert_etl.lake import RETENTION, Lake
from llambert_etl.lake.text_index import FOLDER
from llambert_etl.lake.upkeep import drop_checkpoints, drop_indexes, oldest_kept
from llambert_etl.settings import Settings
from tests.given.documents import DAY, TASK, documents, manifest
from tests.given.labelling import DAY as FIRST
from tests.given.labelling import NEXT, Shelf, drop, label_run
from tests.given.tasks import make_task

COMMITS = 400


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 400 commits; Delta writes a checkpoint at each twentieth."""
    folder = tmp_path_factory.mktemp("grown")
    lake = Lake(str(folder))
    lake.create_tables()
    rows = documents("a")
    for number in range(COMMITS):
        named = rows.set_column(2, "id", [[str(number)]])
        lake.append_once("documents", TASK, DAY, named, manifest=manifest(f"run {number}"))
    return folder


@pytest.fixture
def lake(grown: Path, tmp_path: Path) -> Lake:
    """A copy, hard-linked but for the log, whose commits are a day apart; the newest is of now."""
    shutil.copytree(grown, tmp_path / "lake", copy_function=os.link)
    shutil.rmtree(tmp_path / "lake" / "documents" / "_delta_log")
    shutil.copytree(grown / "documents" / "_delta_log", tmp_path / "lake" / "documents" / "_delta_log")
    lake = Lake(str(tmp_path / "lake"))
    spread(lake, days=1.0)
    return lake


def spread(lake: Lake, days: float) -> None:
    """Put the commits so many days apart."""
    for path in log(lake).iterdir():
        if path.name[:20].isdigit():
            written = time.time() - (COMMITS - int(path.name[:20])) * days * 24 * 3600
            os.utime(path, (written, written))


def log(lake: Lake) -> Path:
    return Path(lake.uri, "documents", "_delta_log")


def checkpoints(lake: Lake) -> list[int]:
    return sorted(int(path.name[:20]) for path in log(lake).glob("*.checkpoint.parquet"))


def upkeep(lake: Lake) -> int:
    return drop_checkpoints(lake, "documents", oldest_kept(lake, RETENTION.days))


def test_few_checkpoints_are_left_and_every_version_and_manifest_is_readable(lake: Lake) -> None:
    before, size = checkpoints(lake), log_bytes(lake)
    assert upkeep(lake) == len(before) - len(checkpoints(lake)) > 0
    assert len(checkpoints(lake)) <= 17, "one for each month, and the newest"
    assert log_bytes(lake) < size
    for version in (1, 19, 20, 21, 150, 390, COMMITS):
        assert lake.scan("documents", TASK, version=version).collect().height == version
    runs = [commit.manifest and commit.manifest.run for commit in lake.commits("documents", TASK)]
    assert runs == [f"run {number}" for number in reversed(range(COMMITS))]
    assert upkeep(lake) == 0


def log_bytes(lake: Lake) -> int:
    return sum(path.stat().st_size for path in log(lake).iterdir())


def test_what_a_reader_of_the_last_days_begins_at_stays(lake: Lake) -> None:
    def begins_at(version: int) -> int:
        return max(each for each in checkpoints(lake) if each <= version)

    spread(lake, days=0.1)
    recent = range(COMMITS - 10 * RETENTION.days, COMMITS + 1)
    before = [begins_at(version) for version in recent]
    upkeep(lake)
    assert [begins_at(version) for version in recent] == before


def test_no_checkpoint_is_further_from_the_version_that_needs_it_than_a_month_and_an_interval(lake: Lake) -> None:
    upkeep(lake)
    kept = [0, *checkpoints(lake)]
    assert all(newer - older <= 31 + 20 for older, newer in itertools.pairwise(kept))


def test_young_checkpoints_stay(lake: Lake) -> None:
    before = checkpoints(lake)
    for path in log(lake).iterdir():
        os.utime(path)
    assert (upkeep(lake), checkpoints(lake)) == (0, before)


def test_an_upkeep_that_was_killed_half_way_has_done_no_harm(lake: Lake, tmp_path: Path) -> None:
    before = shutil.copytree(log(lake), tmp_path / "before")
    gone = upkeep(lake)
    dropped = sorted(path for path in before.glob("*.checkpoint.parquet") if not (log(lake) / path.name).exists())
    for path in dropped[::2]:
        shutil.copy2(path, log(lake))
    assert lake.scan("documents", TASK).collect().height == COMMITS
    assert 0 < upkeep(lake) < gone
    assert upkeep(lake) == 0


def test_delta_deletes_commits_of_more_than_a_year_and_none_that_a_younger_version_needs(lake: Lake) -> None:
    spread(lake, days=1.5)
    upkeep(lake)
    lake.open("documents").cleanup_metadata()
    left = sorted(int(path.stem) for path in log(lake).glob("*.json"))
    year = COMMITS - 365 * 2 // 3
    assert year - 41 <= left[0] <= year, "two months more, at the most"
    assert left == list(range(left[0], COMMITS + 1))
    for version in (year, 300, COMMITS):
        assert lake.scan("documents", TASK, version=version).collect().height == version


def test_the_index_of_a_file_goes_with_it(tmp_path: Path) -> None:
    task, settings = make_task(), Settings(lake=str(tmp_path / "lake"), include=tmp_path, state=tmp_path / "state")
    lake = Lake.from_settings(settings)
    lake.create_tables()
    for day, texts in ((FIRST, ["a"]), (NEXT, ["a", "b"]), (FIRST, ["a", "c"])):
        drop(lake, task, texts, day=day, key=str(texts))
        label_run(lake, task, Shelf(task, 1), settings, run=f"r{texts}", day=day)
    found = [path for path in Path(lake.uri, FOLDER).rglob("*") if path.is_file()]
    assert len(found) == 2, "of the first day's first labels, and of the second day's"
    assert drop_indexes(lake, "labels", oldest_kept(lake, RETENTION.days)) == 0
    for path in found:
        os.utime(path, (0, 0))
    assert drop_indexes(lake, "labels", oldest_kept(lake, RETENTION.days)) == 1
    assert [path.name for path in found if path.exists()] == [
        Path(uri).name for uri in lake.open("labels").file_uris() if NEXT in uri
    ]
