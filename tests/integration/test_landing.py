"""A file that a person has comes to where the night looks for it, in a bucket and in a folder."""

import json
import shutil
from pathlib import Path

import pytest

from llambert_etl.config import LabellingTask
from llambert_etl.errors import ConfigError
from llambert_etl.lake import Lake
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.sources.landing import put
from llambert_etl.steps.ingest import ingest
from tests.given.tasks import make_task

DAY = Partition("2026-11-10")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.jsonl"
    path.write_text(json.dumps({"id": "1", "text": "fine"}) + "\n")
    return path


@pytest.fixture
def folders(tmp_path: Path) -> Settings:
    return Settings(lake=str(tmp_path / "lake"), state=tmp_path / "state", sources=[f"{tmp_path}/landing/"])


def reading(uri: str) -> LabellingTask:
    return make_task(source={"uri": uri})


@pytest.mark.parametrize("place", ["bucket", "folder"])
def test_what_is_put_is_ingested_and_put_again_replaces_what_was_there(
    settings: Settings, folders: Settings, bucket: str, tmp_path: Path, file: Path, place: str
) -> None:
    root, where = {"bucket": (f"s3://{bucket}", settings), "folder": (str(tmp_path), folders)}[place]
    (tmp_path / "landing").mkdir()
    task, lake = reading(f"{root}/landing/{{partition}}/*"), Lake.from_settings(where)
    lake.create_tables()
    for text in ("fine", "poor"):
        file.write_text(json.dumps({"id": "1", "text": text}) + "\n")
        assert put(file, task, DAY, where) == f"{root}/landing/{DAY}/reviews.jsonl"
        done = ingest(Run(task, DAY, text), lake=lake, settings=where)
        assert done.rows == {"read": 1, "accepted": 1, "rejected": 0}
        assert lake.scan("documents", task.name, DAY).collect()["text"].to_list() == [text]


def test_a_night_that_comes_half_way_sees_no_half_file(
    folders: Settings, tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, seen, copy = reading(f"{tmp_path}/landing/{{partition}}/*"), [], shutil.copyfile

    def come_half_way(source: Path, target: Path) -> None:
        copy(source, target)
        seen.extend((tmp_path / "landing" / DAY).iterdir())

    monkeypatch.setattr(shutil, "copyfile", come_half_way)
    put(file, task, DAY, folders)
    assert (seen, len(list((tmp_path / "landing").rglob("*.*")))) == ([], 1)


@pytest.mark.parametrize(
    ("pattern", "name", "said"),
    [
        ("{partition}/*.csv", "reviews.jsonl", "would not be read: files are looked for at"),
        ("{partition}/*", "a*b.jsonl", "would not be read"),
        ("{partition}/*", "a%2fb.jsonl", "would not be read"),
        ("{partition}/*/*.jsonl", "reviews.jsonl", "would not be read"),
        ("../{partition}/*", "reviews.jsonl", r"must not hold '\.'"),
    ],
)
def test_a_file_that_would_not_be_read_is_refused_and_not_put(
    folders: Settings, tmp_path: Path, file: Path, pattern: str, name: str, said: str
) -> None:
    file = file.rename(file.with_name(name))
    with pytest.raises(ConfigError, match=said):
        put(file, reading(f"{tmp_path}/landing/{pattern}"), DAY, folders)
    assert not (tmp_path / "landing").exists()


def test_a_file_whose_day_is_part_of_its_name_is_put_beside_those_of_other_days(
    folders: Settings, tmp_path: Path, file: Path
) -> None:
    file = file.rename(file.with_name(f"{DAY}-a.jsonl"))
    put(file, reading(f"{tmp_path}/landing/{{partition}}-*.jsonl"), DAY, folders)
    assert [path.name for path in (tmp_path / "landing").iterdir()] == [file.name]


def test_a_place_that_takes_no_files_is_told(settings: Settings, folders: Settings, tmp_path: Path, file: Path) -> None:
    table = {"connection": "crm", "table": "t", "day": "d", "id": "id", "text": "text"}
    with pytest.raises(ConfigError, match="its documents do not come from files, so it takes none"):
        put(file, make_task().model_validate({**make_task().model_dump(), "source": table}), DAY, folders)
    with pytest.raises(ConfigError, match="is not under any of LLAMBERT_SOURCES"):
        put(file, reading("/elsewhere/{partition}/*"), DAY, folders)
    with pytest.raises(ConfigError, match="is a folder; name its files"):
        put(tmp_path, make_task(), DAY, folders)
    with pytest.raises(ConfigError, match="no such file"):
        put(tmp_path / "none.csv", reading(f"{tmp_path}/landing/{{partition}}/*"), DAY, folders)
    elsewhere = settings.model_copy(update={"sources": ["s3://no-such-bucket/"]})
    with pytest.raises(ConfigError, match="there is no such bucket; create it"):
        put(file, reading("s3://no-such-bucket/{partition}/*"), DAY, elsewhere)
