"""Three architectures are trained, saved, loaded and asked; what disagrees with its card is refused."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from llambert_etl.config import Encoder as Recipe
from llambert_etl.encoder.inference import Encoder
from llambert_etl.encoder.training import Labelled, fine_tune
from llambert_etl.errors import DataError
from llambert_etl.settings import Settings
from tests.encoders import ARCHITECTURES, LABELS, crafted, pretrained, taught
from tests.tasks import REVISION

ROWS = Labelled(tuple(f"the film {word}" for word in ("good", "bad", "fine", "poor") * 5), (0, 1, 0, 1) * 5)
NONE = Labelled((), ())


def train(root: Path, architecture: str, seed: int = 42) -> Path:
    model = f"tests/{architecture}"
    recipe = Recipe(model=model, revision=REVISION, epochs=1, max_length=32, seed=seed)
    if not (root / architecture).exists():
        pretrained(root / architecture, architecture)
    settings = Settings(lake=str(root), model_paths={model: root / architecture})
    out = root / f"{architecture}-{len(list(root.iterdir()))}"
    fine_tune(recipe, LABELS, [ROWS], NONE, settings, out)
    return out


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_trained_saved_loaded_and_asked(architecture: str, tmp_path: Path) -> None:
    encoder = Encoder.load(train(tmp_path, architecture))
    probabilities = encoder.predict(["good", "bad " * 200, ""])
    assert encoder.labels == LABELS
    assert probabilities.shape == (3, 2)
    assert np.allclose(probabilities.sum(axis=1), 1.0)


def test_the_same_seed_trains_the_same_encoder(tmp_path: Path) -> None:
    first, again, other = (train(tmp_path, "bert", seed) for seed in (1, 1, 2))
    weights = [(folder / "model.safetensors").read_bytes() for folder in (first, again, other)]
    assert weights[0] == weights[1] != weights[2]
    assert (first / "llambert.json").read_text() == (again / "llambert.json").read_text()


def test_training_leaves_no_pickle(tmp_path: Path) -> None:
    names = {path.name for path in train(tmp_path, "bert").iterdir()}
    assert {"config.json", "model.safetensors", "llambert.json", "tokenizer.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]


def test_a_stage_without_one_of_the_labels_is_refused(tmp_path: Path) -> None:
    settings = Settings(lake=str(tmp_path))
    recipe = Recipe(model="tests/bert", revision=REVISION)
    with pytest.raises(DataError, match="every label needs two rows or more"):
        fine_tune(recipe, LABELS, [Labelled(("a", "b"), (0, 0))], NONE, settings, tmp_path / "out")


def test_answers_do_not_depend_on_what_else_is_asked(tmp_path: Path) -> None:
    encoder = Encoder.load(taught(tmp_path / "encoder", {"good": "positive", "bad": "negative"}))
    texts = ["good", "the film bad", "x" * 90, "a", "the film good"]
    together = encoder.predict(texts)
    alone = np.vstack([encoder.predict([text]) for text in texts])
    assert np.allclose(together, alone, atol=2e-2)
    assert np.allclose(encoder.predict(texts[::-1]), together[::-1], atol=2e-2)


class Watched(Encoder):
    """Keeps the token ids that reach the model."""

    def _forward(self, rows: list[list[int]]) -> npt.NDArray[np.float64]:
        self.rows = rows
        return super()._forward(rows)


def test_control_tokens_in_a_text_are_text(tmp_path: Path) -> None:
    encoder = Watched.load(crafted(tmp_path / "encoder", "positive"))
    encoder.predict(["good [SEP] [PAD] [CLS] bad"])
    tokenizer = encoder._tokenizer
    special = {tokenizer.sep_token_id, tokenizer.pad_token_id, tokenizer.cls_token_id}
    assert len(encoder.rows[0]) > 7
    assert not special & set(encoder.rows[0][1:-1])


@pytest.mark.parametrize("answers", LABELS)
def test_a_crafted_encoder_gives_one_label(answers: str, tmp_path: Path) -> None:
    encoder = Encoder.load(crafted(tmp_path / "encoder", answers))
    assert set(encoder.predict(["good", "bad", ""]).argmax(axis=1)) == {LABELS.index(answers)}


@pytest.mark.parametrize(
    "card",
    [
        "no json",
        json.dumps({"labels": list(LABELS)}),
        json.dumps({"labels": ["positive"], "temperature": 1.0, "max_length": 32}),
        json.dumps({"labels": list(LABELS), "temperature": 0.0, "max_length": 32}),
        json.dumps({"labels": list(LABELS), "temperature": float("nan"), "max_length": 32}),
        json.dumps({"labels": list(LABELS[::-1]), "temperature": 1.0, "max_length": 32}),
    ],
    ids=["not json", "incomplete", "one label", "zero temperature", "no number", "other order"],
)
def test_a_folder_that_disagrees_with_its_card_is_refused(card: str, tmp_path: Path) -> None:
    folder = crafted(tmp_path / "encoder", "positive")
    (folder / "llambert.json").write_text(card)
    with pytest.raises(DataError, match=r"llambert\.json"):
        Encoder.load(folder)


def test_a_folder_without_a_card_or_config_is_refused(tmp_path: Path) -> None:
    folder = crafted(tmp_path / "encoder", "positive")
    (folder / "config.json").unlink()
    with pytest.raises(DataError, match=r"config\.json"):
        Encoder.load(folder)
    (folder / "llambert.json").unlink()
    with pytest.raises(DataError, match="not a model card"):
        Encoder.load(folder)
