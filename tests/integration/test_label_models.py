"""A label run and its model's files: read from the lake while the registry is down, refused when they have changed."""

import os
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml

from laptop.environment import variables
from laptop.ports import LOOPBACK, free_ports
from llambert_etl.cli import run as cli
from llambert_etl.config import LabellingTask
from llambert_etl.errors import DataError, TransientError
from llambert_etl.labelling.model_files import fetch, keep
from llambert_etl.lake import Lake
from llambert_etl.registry import Registry
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.steps.label import Classifier
from llambert_etl.steps.maintain import maintain
from llambert_etl.steps.plan import plan
from llambert_etl.steps.publish import publish
from tests.given.labelling import DAY, NEXT, Shelf, drop, finish, labels, run_shard
from tests.given.tasks import make_task


@pytest.fixture
def task(settings: Settings) -> LabellingTask:
    task = make_task(name=f"reviews_{uuid.uuid4().hex[:8]}")
    (settings.include / "tasks").mkdir()
    fields = yaml.safe_dump(task.model_dump(mode="json"), sort_keys=False)
    (settings.include / "tasks" / f"{task.name}.yaml").write_text(fields)
    return task


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


def label_shard(lake: Lake, task: LabellingTask, settings: Settings, run: str, cache: Path) -> None:
    run_shard(lake, task, settings, DAY, run, 0, Positive(lake, cache))


def flip_a_bit(lake: Lake, key: str) -> None:
    content = bytearray(lake.storage.read(key) or b"")
    content[-1] ^= 1
    lake.storage.write(key, [bytes(content)])


def fresh_pod(settings: Settings, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands run with an empty state folder, and with an MLflow where nobody listens."""
    closed = f"http://{LOOPBACK}:{free_ports(1)[0]}"
    pod = settings.model_copy(update={"state": state, "mlflow_uri": closed})
    for name, value in variables(pod).items():
        monkeypatch.setenv(name, value)


def test_a_label_run_on_fresh_pods_survives_an_outage_of_the_registry(
    lake: Lake, task: LabellingTask, registry_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.models.encoders import LABELS, taught

    registry = Registry.from_settings(registry_settings)
    encoder = taught(tmp_path / "encoder", {"good": "positive", "bad": "negative"})
    key, hashed = "k1", task.config_hash
    registry.register(
        task.name, DAY, run_key=key, folder=encoder, labels=LABELS, params={}, metrics={}, config_hash=hashed
    )
    registry.set_champion(task.name, 1)
    drop(lake, task, ["the film good", "the film bad"])
    plan(Run(task, DAY, "r1"), lake=lake, registry=registry, settings=registry_settings)

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
    plan(Run(task, DAY, "r1"), lake=lake, registry=shelf, settings=settings)  # type: ignore[arg-type]
    label_shard(lake, task, settings, "r1", cache)
    finish(lake, task, DAY, "r1")
    shelf.now = 2
    plan(Run(task, DAY, "r2"), lake=lake, registry=shelf, settings=settings)  # type: ignore[arg-type]
    flip_a_bit(lake, f"_models/llambert.{task.name}/2/model.safetensors")
    for _ in range(2):
        with pytest.raises(DataError, match=r"model\.safetensors is not the file that was registered.*_models/.*/2"):
            label_shard(lake, task, settings, "r2", cache)
    with pytest.raises(DataError, match="not staged"):
        publish(Run(task, DAY, "r2"), lake=lake)
    assert {number for _, number in labels(lake, task).values()} == {1}
    assert [path.name for path in (cache / f"llambert.{task.name}").iterdir()] == ["1"]


def test_local_copies_and_candidates_that_nothing_has_asked_for_of_late_go(settings: Settings, tmp_path: Path) -> None:
    lake, here = Lake(str(tmp_path / "lake")), settings.model_copy(update={"state": tmp_path / "state"})
    lake.create_tables()
    shelf = Shelf(make_task(), 1)
    asked, left = (shelf.version(make_task().name, number) for number in (1, 2))
    folders = [here.candidates / "films" / "a1"]
    folders[0].mkdir(parents=True)
    for version in (asked, left):
        keep(lake, version, shelf.download)
        folders.append(fetch(lake, version, here.model_cache))
    for folder in folders:
        os.utime(folder, (0, folder.stat().st_mtime - 8 * 24 * 3600))
    fetch(lake, asked, here.model_cache)
    assert maintain(lake=lake, settings=here)["local copies"]["removed"] == 2
    assert [folder.exists() for folder in folders] == [False, True, False]


def test_old_copies_go_unless_a_row_of_labels_names_them_or_a_plan_has_asked_for_them(
    settings: Settings, tmp_path: Path
) -> None:
    # In a folder, where a file can be given an age.
    lake, task = Lake(str(tmp_path / "lake")), make_task()
    lake.create_tables()
    shelf = Shelf(task, 1)
    drop(lake, task, ["a"])
    plan(Run(task, DAY, "r1"), lake=lake, registry=shelf, settings=settings)  # type: ignore[arg-type]
    label_shard(lake, task, settings, "r1", tmp_path)
    finish(lake, task, DAY, "r1")
    for number in (2, 3):
        keep(lake, shelf.version(task.name, number), shelf.download)
    for path in (tmp_path / "lake" / "_models").rglob("*.*"):
        if path.is_file():
            os.utime(path, (0, path.stat().st_mtime - 8 * 24 * 3600))
    shelf.down = True
    keep(lake, shelf.version(task.name, 3), shelf.download)
    assert maintain(lake=lake, settings=settings)["models"]["removed"] == 1
    for number in (1, 3):
        keep(lake, shelf.version(task.name, number), shelf.download)
    with pytest.raises(TransientError, match="registry: no answer"):
        keep(lake, shelf.version(task.name, 2), shelf.download)
