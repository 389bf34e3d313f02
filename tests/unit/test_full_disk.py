"""A disk or a quota that takes no more: 75 with the folder and what is free there, and nothing half-written counts."""

import random
from pathlib import Path

import pytest

from llambert_etl.cli.outcome import conclude
from llambert_etl.errors import TransientError
from llambert_etl.labelling.model_files import fetch, keep
from llambert_etl.lake import Lake
from llambert_etl.store.copies import sha256
from llambert_etl.store.folders import Folder
from llambert_etl.store.space import room_in
from tests.given.labelling import Shelf, drop
from tests.given.tasks import make_task
from tests.processes.full_disk import LIMIT, full_disk

SAID = r"{}': this disk or quota takes no more; [\d,]+ bytes of the disk are free"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path / "lake"))
    lake.create_tables()
    return lake


def test_a_lake_that_takes_no_more_keeps_what_it_has(lake: Lake) -> None:
    task = make_task()
    drop(lake, task, ["before"])
    texts = [random.Random(n).randbytes(2000).hex() for n in range(100)]  # noqa: S311 - to be incompressible
    with full_disk(), pytest.raises(TransientError, match=SAID.format("lake/documents")):
        drop(lake, task, texts, key="more")
    assert lake.scan("documents", task.name).collect()["text"].to_list() == ["before"]
    drop(lake, task, texts, key="more")
    assert lake.scan("documents", task.name).collect().height == 100


def test_a_model_is_fetched_whole_or_not_at_all(lake: Lake, tmp_path: Path) -> None:
    version = Shelf(make_task(), 1).version(make_task().name, 1)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(bytes(2 * LIMIT))
    version = version.model_copy(update={"hashes": {"model.safetensors": sha256(tmp_path / "model/model.safetensors")}})
    keep(lake, version, lambda _: tmp_path / "model")
    cache = tmp_path / "cache"
    with full_disk(), pytest.raises(TransientError, match=SAID.format("cache/llambert.reviews")):
        fetch(lake, version, cache)
    assert not version.place(cache).exists()
    assert not [path for path in cache.rglob("*") if path.is_file()]
    assert fetch(lake, version, cache) == version.place(cache)


def test_a_copy_into_the_lake_that_ends_half_way_does_not_count(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(2 * LIMIT))
    folder, hashes = Folder(lake.storage, "_models", "m", "1"), {"big": sha256(tmp_path / "big")}
    with full_disk(), pytest.raises(TransientError, match=SAID.format("lake/_models/m/1")):
        folder.put(tmp_path, hashes)
    assert not folder.holds(hashes)
    folder.put(tmp_path, hashes)
    assert folder.holds(hashes)


@pytest.mark.parametrize(
    "failure",
    [
        OSError(28, "No space left on device"),
        OSError(122, "Disk quota exceeded"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:668] . PytorchStreamWriter failed writing file data/5"),
    ],
    ids=str,
)
def test_whatever_a_library_makes_of_it_the_command_ends_with_75_and_the_folder(
    failure: Exception, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        raise failure

    def work_in_its_folder() -> None:
        with room_in(tmp_path):
            work()

    assert [conclude(work), conclude(work_in_its_folder)] == [75, 75]
    first, second = capsys.readouterr().err.strip().splitlines()
    assert "takes no more; " in first
    assert f"'{tmp_path}': this disk or quota takes no more; " in second


def test_a_real_full_device_is_told_as_one(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="this disk or quota takes no more"), room_in(tmp_path):
        with Path("/dev/full").open("wb") as file:
            file.write(bytes(100_000))
