"""A training that is stopped goes on where it stood, on any machine, and comes to the weights of one that was not."""

import datetime
from collections.abc import Iterable
from pathlib import Path

import pytest

from llambert_etl.config import Recipe
from llambert_etl.encoder.kept import Kept, checkpoints_of, drop_old
from llambert_etl.encoder.training import LabelledTexts, fine_tune
from llambert_etl.errors import TransientError
from llambert_etl.lake import Lake
from llambert_etl.settings import Settings
from llambert_etl.store.folders import Folder
from llambert_etl.store.storage import Storage
from tests.given.tasks import REVISION
from tests.models.encoders import LABELS, pretrained

RECIPE = Recipe(model="tests/tiny-bert", revision=REVISION, epochs=4, max_length=32, learning_rate=0.01)
FIRST = LabelledTexts(
    tuple(f"the film {word} {number}" for number, word in enumerate(("good", "bad") * 20)), (0, 1) * 20
)
THEN = LabelledTexts(tuple(f"a film {word} {number}" for number, word in enumerate(("fine", "poor") * 10)), (0, 1) * 10)


def kept_in(root: Path) -> Folder:
    return checkpoints_of(Lake(str(root / "lake")), "movies", "key")


def fitted(root: Path, name: str, recipe: Recipe, processes: int, keep_in: Folder | None) -> bytes:
    mirror = {recipe.model: root / "bert"}
    settings = Settings(lake=str(root / "lake"), model_paths=mirror, train_processes=processes, checkpoint_seconds=0)
    fine_tune(recipe, LABELS, [FIRST, THEN], THEN, settings, root / name, keep_in=keep_in)
    return (root / name / "model.safetensors").read_bytes()


class Stops(Folder):
    """Ends the process, as a signal would, once it holds a checkpoint of that stage."""

    def __init__(self, root: Path, stage: str) -> None:
        super().__init__(Storage(str(root / "lake"), {}), "_checkpoints", *kept_in(root).uri.split("/")[-2:])
        self._stage = stage

    def drop_unlisted(self) -> None:
        super().drop_unlisted()
        if any(name.startswith(self._stage) for name in self.hashes() or {}):
            raise SystemExit(75)


@pytest.mark.parametrize(
    ("processes", "stage", "changes"),
    [
        (1, "stage-0-epoch-", {}),
        (1, "stage-1-epoch-", {}),
        (1, "stage-0-epoch-", {"patience": 4, "attention_dropout": 0.1}),
        (1, "stage-1-epoch-", {"patience": 4, "average_stages": False}),
        pytest.param(2, "stage-", {}, marks=pytest.mark.timeout(600)),  # six processes are started in turn
    ],
    ids=["first stage", "stage that is averaged", "with patience", "later with patience", "two processes"],
)
def test_a_training_that_was_stopped_goes_on_to_the_weights_of_one_that_was_not(
    tmp_path: Path, processes: int, stage: str, changes: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    pretrained(tmp_path / "bert")
    recipe = RECIPE.model_copy(update=changes)
    undisturbed = fitted(tmp_path, "undisturbed", recipe, processes, None)
    with pytest.raises(SystemExit):
        fitted(tmp_path, "stopped", recipe, processes, Stops(tmp_path, stage))
    found = kept_in(tmp_path).hashes()
    assert found is not None
    caplog.set_level("INFO", "llambert_etl.encoder")
    caplog.clear()
    assert fitted(tmp_path, "again", recipe, processes, kept_in(tmp_path)) == undisturbed
    assert ("going on after epoch" in caplog.text) is any("epoch" in name for name in found)
    begun = [record for record in caplog.records if record.message.startswith("training on")]
    assert len(begun) == 2 - sum("epoch" not in name for name in found), "a stage that was over is trained again"


def test_a_training_that_was_over_is_not_done_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pretrained(tmp_path / "bert")
    first = fitted(tmp_path, "first", RECIPE, 1, kept_in(tmp_path))
    assert set(kept_in(tmp_path).sizes()) == {"files.json", "stage-0.safetensors", "stage-1.safetensors"}
    caplog.set_level("INFO", "llambert_etl.encoder")
    caplog.clear()
    assert fitted(tmp_path, "again", RECIPE, 1, kept_in(tmp_path)) == first
    assert "training on" not in caplog.text


def test_a_checkpoint_that_was_changed_is_not_gone_on_from(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pretrained(tmp_path / "bert")
    first = fitted(tmp_path, "first", RECIPE, 1, kept_in(tmp_path))
    path = Path(kept_in(tmp_path).uri) / "stage-0.safetensors"
    path.write_bytes(bytes(path.stat().st_size))
    assert fitted(tmp_path, "again", RECIPE, 1, kept_in(tmp_path)) == first
    assert "stage-0.safetensors is not what was written; training starts from nothing" in caplog.text


class Full(Folder):
    """A place in a lake that takes nothing more."""

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        raise TransientError(f"{name}: no room")


def test_a_lake_that_takes_no_checkpoint_does_not_end_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pretrained(tmp_path / "bert")
    fitted(tmp_path, "trained", RECIPE, 1, Full(Storage(str(tmp_path / "lake"), {}), "full"))
    assert "the checkpoint is not kept: stage-0-epoch-0001.safetensors: no room" in caplog.text


class Beside(Folder):
    """Another run of the same training drops what is not listed yet while this one writes it."""

    def __init__(self, root: Path) -> None:
        super().__init__(Storage(str(root / "lake"), {}), "_checkpoints", *kept_in(root).uri.split("/")[-2:])

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        def dropped() -> Iterable[bytes]:
            yield from chunks
            self.drop_unlisted()

        super().write(name, dropped())


def test_a_run_of_the_same_training_beside_it_costs_the_checkpoint_and_not_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "stage-0.safetensors").write_bytes(b"weights")
    Kept(Beside(tmp_path), tmp_path / "local").push()
    assert "the checkpoint is not kept" in caplog.text
    Kept(kept_in(tmp_path), tmp_path / "local").push()
    assert list(kept_in(tmp_path).hashes() or ()) == ["stage-0.safetensors"]


def test_checkpoints_that_nothing_goes_on_from_are_dropped_after_a_while(tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "stage-0.safetensors").write_bytes(b"weights")
    Kept(kept_in(tmp_path), tmp_path / "local").push()
    lake, now = Lake(str(tmp_path / "lake")), datetime.datetime.now(datetime.UTC)
    assert drop_old(lake, now - datetime.timedelta(days=1)) == 0
    assert drop_old(lake, now + datetime.timedelta(seconds=1)) == 1
    assert kept_in(tmp_path).sizes() == {}
