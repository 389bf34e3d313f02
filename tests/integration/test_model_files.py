"""Copies of models in the lake: whole or not there, whatever is killed or cut meanwhile, and dropped when unused."""

import datetime
import hashlib
import os
import signal
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from laptop.seaweed import SeaweedFS
from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.labelling.model_files import drop_unused, fetch, keep
from llambert_etl.lake import Lake
from llambert_etl.registry import ModelVersion
from llambert_etl.settings import Settings
from tests.fakes.proxy import Proxy
from tests.given.labelling import Shelf
from tests.given.tasks import make_task
from tests.processes.children import Child, race

# Two parts of an upload.
LARGE = 20 * 1024 * 1024


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder like an encoder's, its weights larger than one part of an upload."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(os.urandom(1024) * (LARGE // 1024))
    (folder / "llambert.json").write_text("{}")
    return folder


def version_of(files: Path) -> ModelVersion:
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files.iterdir())}
    return Shelf(make_task(), 1).version("reviews", 1).model_copy(update={"hashes": hashes})


def key(version: ModelVersion, name: str) -> str:
    return f"_models/{version.name}/{version.version}/{name}"


def same(one: Path, other: Path) -> bool:
    return {path.name: path.read_bytes() for path in one.iterdir()} == {
        path.name: path.read_bytes() for path in other.iterdir()
    }


def nobody(_: ModelVersion) -> Path:
    raise TransientError("nobody must be asked for these files")


def keeping(uri: str, options: dict[str, str], version: str, files: str) -> Generator[None, None, bool]:
    lake = Lake(uri, options)
    yield
    keep(lake, ModelVersion.model_validate_json(version), lambda _: Path(files))
    return True


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", r"/model\.safetensors\?.*partNumber=2"),
        ("POST", r"/model\.safetensors\?uploadId"),
        ("PUT", r"/files\.json"),
    ],
    ids=["in the weights", "at the end of the weights", "before the list"],
)
def test_a_copy_that_was_killed_half_way_does_not_count_and_the_next_plan_completes_it(
    lake: Lake, proxied: dict[str, str], proxy: Proxy, files: Path, tmp_path: Path, method: str, path: str
) -> None:
    version = version_of(files)
    with Child(keeping, lake.uri, proxied, version.model_dump_json(), str(files)) as planner:
        proxy.rule("kill_before", method, path, pid=planner.ready().pid)
        planner.go()
        assert planner.wait() == -signal.SIGKILL
    with pytest.raises(DataError, match=r"no whole copy of the model; run `llambert plan` again"):
        fetch(lake, version, tmp_path / "cache")
    keep(lake, version, lambda _: files)
    assert same(fetch(lake, version, tmp_path / "cache"), files)


def test_a_whole_copy_is_not_made_again_and_one_that_lost_or_cut_a_file_is(
    lake: Lake, files: Path, tmp_path: Path
) -> None:
    version = version_of(files)
    keep(lake, version, lambda _: files)
    keep(lake, version, nobody)
    lake.storage.write(key(version, "config.json"), [b"{"])
    with pytest.raises(TransientError, match="nobody must be asked"):
        keep(lake, version, nobody)
    keep(lake, version, lambda _: files)
    assert same(fetch(lake, version, tmp_path / "cache"), files)
    (lost,) = [info for info in lake.storage.list("_models") if info.base_name == "llambert.json"]
    lake.storage.delete(lost)
    with pytest.raises(TransientError, match="nobody must be asked"):
        keep(lake, version, nobody)


def test_a_file_that_changes_under_way_is_not_kept(lake: Lake, files: Path) -> None:
    version = version_of(files)
    (files / "model.safetensors").write_bytes(b"x" * LARGE)
    with pytest.raises(DataError, match=r"model\.safetensors: changed before it was copied"):
        keep(lake, version, lambda _: files)
    with pytest.raises(TransientError, match="nobody must be asked"):
        keep(lake, version, nobody)


@pytest.mark.parametrize("place", ["s3", "folder"])
def test_plans_at_once_leave_one_whole_copy(lake: Lake, files: Path, tmp_path: Path, place: str) -> None:
    version, where = version_of(files), lake if place == "s3" else Lake(str(tmp_path / "lake"))
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: keep(where, version, lambda _: files), range(3)))
    assert same(fetch(where, version, tmp_path / "cache"), files)
    assert {info.base_name for info in where.storage.list("_models")} == {*version.hashes, "files.json"}


def test_a_download_that_is_cut_short_is_never_taken_for_the_file(
    lake: Lake, faulty: Lake, proxy: Proxy, files: Path, tmp_path: Path
) -> None:
    version = version_of(files)
    keep(lake, version, lambda _: files)
    proxy.rule("truncate", "GET", r"/model\.safetensors", times=None)
    with pytest.raises((TransientError, DataError)):
        fetch(faulty, version, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def growing(uri: str, options: dict[str, str], version: str, files: str) -> Generator[None, None, int]:
    """Return by how many megabytes the peak of the process's memory has grown."""
    lake, wanted = Lake(uri, options), ModelVersion.model_validate_json(version)
    yield
    before = peak()
    keep(lake, wanted, lambda _: Path(files))
    return peak() - before


def peak() -> int:
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024


def test_a_model_is_never_in_memory_whole(lake: Lake, settings: Settings, files: Path) -> None:
    os.truncate(files / "model.safetensors", 200 * 1024 * 1024)
    version = version_of(files).model_dump_json()
    with Child(growing, lake.uri, settings.storage_options, version, str(files)) as planner:
        assert race([planner])[0] < 120


def test_an_identity_that_may_only_read_is_told_so(lake: Lake, settings: Settings, s3: SeaweedFS, files: Path) -> None:
    keys = {"aws_access_key_id": s3.reader_access_key, "aws_secret_access_key": s3.reader_secret_key}
    with pytest.raises(ConfigError, match="refuses these credentials"):
        keep(Lake(lake.uri, {**settings.storage_options, **keys}), version_of(files), lambda _: files)


def test_an_unused_copy_is_deleted_from_the_store(lake: Lake, files: Path) -> None:
    keep(lake, version_of(files), lambda _: files)
    assert drop_unused(lake, before=datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)) == 0
    assert drop_unused(lake, before=datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)) == 1
    assert lake.storage.list("_models") == []
