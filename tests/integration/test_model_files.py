"""The files of a model version in the lake: whole, verified, and enough to label with while the registry is down."""

import datetime
import hashlib
import os
import signal
import uuid
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from llambert_etl.cli import run as cli
from llambert_etl.config import LabellingTask
from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.labelling import merge, read_plan, read_shards, record_check
from llambert_etl.lake import Lake
from llambert_etl.models import drop_unused, fetch, keep
from llambert_etl.partition import Partition
from llambert_etl.registry import ModelVersion, Registry
from llambert_etl.settings import Settings
from llambert_etl.stack.environment import variables
from llambert_etl.stack.ports import LOOPBACK, free_ports
from llambert_etl.stack.seaweed import SeaweedFS
from llambert_etl.steps.label import Classifier, label
from llambert_etl.steps.maintain import maintain
from llambert_etl.steps.plan import plan
from llambert_etl.steps.publish import publish
from tests.children import Child, race
from tests.faults import Proxy
from tests.labelling import DAY, NEXT, Shelf, drop, labels
from tests.tasks import make_task

# Two parts of an upload.
LARGE = 20 * 1024 * 1024


@pytest.fixture
def faulty(lake: Lake, settings: Settings, proxy: Proxy) -> Lake:
    """Return the same lake, through the proxy."""
    return Lake(lake.uri, {**settings.storage_options, "aws_endpoint": proxy.endpoint()})


@pytest.fixture
def task(settings: Settings) -> LabellingTask:
    task = make_task(name=f"reviews_{uuid.uuid4().hex[:8]}")
    (settings.include / "tasks").mkdir()
    fields = yaml.safe_dump(task.model_dump(mode="json"), sort_keys=False)
    (settings.include / "tasks" / f"{task.name}.yaml").write_text(fields)
    return task


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder like an encoder's, its weights larger than one part of an upload."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(os.urandom(1024) * (LARGE // 1024))
    (folder / "llambert.json").write_text("{}")
    return folder


def version_of(files: Path, number: int = 1) -> ModelVersion:
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files.iterdir())}
    shelf = Shelf(make_task(), number)
    return shelf.version("reviews", number).model_copy(update={"hashes": hashes})


def key(version: ModelVersion, name: str) -> str:
    return f"_models/{version.name}/{version.version}/{name}"


def same(one: Path, other: Path) -> bool:
    return {path.name: path.read_bytes() for path in one.iterdir()} == {
        path.name: path.read_bytes() for path in other.iterdir()
    }


def unheard(done: int, total: int) -> None:
    """Be a progress callback that tells nobody."""


def nobody(_: ModelVersion) -> Path:
    raise TransientError("nobody must be asked for these files")


def fresh_pod(settings: Settings, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands run with an empty state folder, and with an MLflow where nobody listens."""
    closed = f"http://{LOOPBACK}:{free_ports(1)[0]}"
    pod = settings.model_copy(update={"state": state, "mlflow_uri": closed})
    for name, value in variables(pod).items():
        monkeypatch.setenv(name, value)


def finish(lake: Lake, task: LabellingTask, day: Partition, run: str) -> None:
    made = read_plan(lake, task.name, day, run)
    record_check(lake, made, merge(made, read_shards(lake, made)))
    publish(task, day, run=run, lake=lake)


def test_a_label_run_on_fresh_pods_survives_an_outage_of_the_registry(
    lake: Lake, task: LabellingTask, registry_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.encoders import LABELS, taught

    registry = Registry.from_settings(registry_settings)
    encoder = taught(tmp_path / "encoder", {"good": "positive", "bad": "negative"})
    key, hashed = "k1", task.config_hash
    registry.register(
        task.name, DAY, run_key=key, folder=encoder, labels=LABELS, params={}, metrics={}, config_hash=hashed
    )
    registry.set_champion(task.name, 1)
    drop(lake, task, ["the film good", "the film bad"])
    plan(task, DAY, run="r1", lake=lake, registry=registry, settings=registry_settings)

    fresh_pod(registry_settings, tmp_path / "pod 1", monkeypatch)
    assert cli(["label", "--task", task.name, "--partition", DAY, "--run", "r1", "--shard", "0"]) == 0
    finish(lake, task, DAY, "r1")
    assert labels(lake, task) == {f"{DAY}-0": ("positive", 1), f"{DAY}-1": ("negative", 1)}

    drop(lake, task, ["a film of the next day"], day=NEXT)
    for pod, step in (("pod 2", ["plan"]), ("pod 3", ["label", "--shard", "0"])):
        fresh_pod(registry_settings, tmp_path / pod, monkeypatch)
        assert cli([*step, "--task", task.name, "--partition", NEXT, "--run", "r2"]) == 0
    finish(lake, task, NEXT, "r2")
    assert [number for _, number in labels(lake, task, NEXT).values()] == [1]


def test_a_changed_file_in_the_lake_is_refused_and_readers_keep_their_labels(
    lake: Lake, settings: Settings, tmp_path: Path
) -> None:
    task, cache = make_task(), tmp_path / "cache"
    shelf = Shelf(task, 1)
    drop(lake, task, ["a", "b"])
    plan(task, DAY, run="r1", lake=lake, registry=shelf, settings=settings)  # type: ignore[arg-type]
    label(task, DAY, run="r1", shard=0, lake=lake, load=Positive(lake, cache), progress=unheard)
    finish(lake, task, DAY, "r1")
    shelf.now = 2
    plan(task, DAY, run="r2", lake=lake, registry=shelf, settings=settings)  # type: ignore[arg-type]
    flip_a_bit(lake, key(shelf.version(task.name, 2), "model.safetensors"))
    for _ in range(2):
        with pytest.raises(DataError, match=r"model\.safetensors is not the file that was registered.*_models/.*/2"):
            label(task, DAY, run="r2", shard=0, lake=lake, load=Positive(lake, cache), progress=unheard)
    with pytest.raises(DataError, match="not staged"):
        publish(task, DAY, run="r2", lake=lake)
    assert {number for _, number in labels(lake, task).values()} == {1}
    assert [path.name for path in (cache / f"llambert.{task.name}").iterdir()] == ["1"]


class Positive:
    """A classifier that fetches its files as a shard does, and then needs none of them."""

    def __init__(self, lake: Lake, cache: Path) -> None:
        self.lake, self.cache = lake, cache

    def __call__(self, made: Any) -> Classifier:
        fetch(self.lake, made.model, self.cache)
        return self

    def predict(self, texts: list[str]) -> Any:
        import numpy as np

        return np.asarray([[0.9, 0.1]] * len(texts))


def flip_a_bit(lake: Lake, key: str) -> None:
    content = bytearray(lake.storage.read(key) or b"")
    content[-1] ^= 1
    lake.storage.write(key, [bytes(content)])


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
    lake: Lake, settings: Settings, proxy: Proxy, files: Path, tmp_path: Path, method: str, path: str
) -> None:
    version, options = version_of(files), {**settings.storage_options, "aws_endpoint": proxy.endpoint()}
    with Child(keeping, lake.uri, options, version.model_dump_json(), str(files)) as planner:
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


def test_old_copies_go_unless_a_row_of_labels_names_them_or_a_plan_has_asked_for_them(
    settings: Settings, tmp_path: Path
) -> None:
    # In a folder, where a file can be given an age.
    lake, task = Lake(str(tmp_path / "lake")), make_task()
    lake.create_tables()
    shelf = Shelf(task, 1)
    drop(lake, task, ["a"])
    plan(task, DAY, run="r1", lake=lake, registry=shelf, settings=settings)  # type: ignore[arg-type]
    label(task, DAY, run="r1", shard=0, lake=lake, load=Positive(lake, tmp_path), progress=unheard)
    finish(lake, task, DAY, "r1")
    for number in (2, 3):
        keep(lake, shelf.version(task.name, number), shelf.download)
    for path in (tmp_path / "lake" / "_models").rglob("*.*"):
        if path.is_file():
            os.utime(path, (0, path.stat().st_mtime - 8 * 24 * 3600))
    keep(lake, shelf.version(task.name, 3), nobody)
    assert maintain(lake=lake)["models"]["removed"] == 1
    for number in (1, 3):
        keep(lake, shelf.version(task.name, number), nobody)
    with pytest.raises(TransientError, match="nobody must be asked"):
        keep(lake, shelf.version(task.name, 2), nobody)


def test_an_unused_copy_is_deleted_from_the_store(lake: Lake, files: Path) -> None:
    keep(lake, version_of(files), lambda _: files)
    assert drop_unused(lake, before=datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)) == 0
    assert drop_unused(lake, before=datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)) == 1
    assert lake.storage.list("_models") == []
