"""Three architectures are trained, saved, loaded and asked; what disagrees with its card is refused."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file

from llambert_etl.compute.batching import Capacity
from llambert_etl.config import Recipe
from llambert_etl.encoder.calibration import fit_temperature, fold_temperature
from llambert_etl.encoder.card import Card
from llambert_etl.encoder.inference import Encoder
from llambert_etl.encoder.labelled import Stage, read_stage, unseen
from llambert_etl.encoder.pretrained import load_pretrained
from llambert_etl.encoder.stages import run_stages
from llambert_etl.encoder.training import LabelledTexts, fine_tune
from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.settings import Settings
from tests.given.tasks import REVISION
from tests.models.encoders import ARCHITECTURES, HELDOUT, LABELS, LONGEST, crafted, pretrained, taught, trained

ROWS = LabelledTexts(tuple(f"the film {word}" for word in ("good", "bad", "fine", "poor") * 5), (0, 1, 0, 1) * 5)
NONE = LabelledTexts((), ())


def train(root: Path, architecture: str, seed: int = 42) -> Path:
    model = f"tests/{architecture}"
    recipe = Recipe(model=model, revision=REVISION, epochs=1, max_length=LONGEST, seed=seed)
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


# Sixteen is also the width of these models: another layer than the last has as many outputs.
@pytest.mark.parametrize("classes", [2, 16])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_calibration_scales_the_logits_and_changes_no_label(architecture: str, classes: int) -> None:
    labels = tuple(f"label {number}" for number in range(classes))
    torch.manual_seed(0)
    model, tokenizer = ARCHITECTURES[architecture](labels)
    encoder = Encoder(model, tokenizer, Card(labels, 32))
    texts = ["good", "the film bad", "x" * 90, ""]
    before = encoder.logits(texts)
    fold_temperature(model, classes, 4.0)
    after = encoder.logits(texts)
    assert np.allclose(after, before / 4.0)
    assert np.array_equal(after.argmax(axis=1), before.argmax(axis=1))


def test_what_training_saves_is_calibrated_on_the_held_out_rows(tmp_path: Path) -> None:
    encoder, truth = Encoder.load(trained(tmp_path)), np.asarray(HELDOUT.labels)
    assert fit_temperature(encoder.logits(HELDOUT.texts), truth) == pytest.approx(1.0, rel=0.05)
    assert encoder.predict(HELDOUT.texts[:2]).max(axis=1) == pytest.approx(0.8, abs=0.05)
    assert list(encoder.predict(HELDOUT.texts[:2]).argmax(axis=1)) == [0, 1]


def test_a_model_without_a_last_linear_layer_is_refused() -> None:
    with pytest.raises(ConfigError, match="no linear layer of 2 outputs"):
        fold_temperature(torch.nn.Sequential(torch.nn.Linear(4, 3)), 2, 2.0)


def test_calibration_looks_at_texts_that_nothing_was_learnt_from(tmp_path: Path) -> None:
    first, later = LabelledTexts(("a", "b"), (0, 1)), LabelledTexts(("b", "c"), (1, 0))
    stages = [Stage(first, NONE), Stage(NONE, later)]
    assert unseen(stages) == LabelledTexts(("c",), (0,))
    assert unseen([Stage(first, NONE), Stage(NONE, first)]) == first


def test_a_device_without_room_for_a_batch_labels_its_halves_alike(tmp_path: Path) -> None:
    settings = Settings(lake=str(tmp_path), model_paths={"tests/bert": pretrained(tmp_path / "bert")})
    recipe = Recipe(model="tests/bert", revision=REVISION, max_length=LONGEST, learning_rate=0.01)
    model, tokenizer = load_pretrained(recipe, LABELS, settings)
    encoder, sizes = Encoder(model, tokenizer, Card(LABELS, LONGEST)), list[int]()

    def refuse(_: torch.nn.Module, __: tuple[object, ...], inputs: dict[str, torch.Tensor]) -> None:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError

    alone = np.concatenate([encoder.logits([text]) for text in HELDOUT.texts])
    model.register_forward_pre_hook(refuse, with_kwargs=True)
    encoder._capacity = Capacity(8 * LONGEST)
    assert np.allclose(encoder.logits(HELDOUT.texts), alone, atol=1e-5)
    assert max(sizes) > 2
    assert sum(size for size in sizes if size <= 2) == len(HELDOUT.texts)


@pytest.mark.parametrize("full", ["a batch", "the weights"])
def test_a_device_without_room_is_worth_another_try(full: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    settings = Settings(lake=str(tmp_path), model_paths={"tests/bert": pretrained(tmp_path / "bert")})
    recipe = Recipe(model="tests/bert", revision=REVISION, max_length=LONGEST, learning_rate=0.01)
    model, tokenizer = load_pretrained(recipe, LABELS, settings)
    if full == "the weights":
        monkeypatch.setattr(model, "to", refuse)
    model.register_forward_pre_hook(refuse)
    with pytest.raises(TransientError, match="lower encoder.max_length"):
        list(run_stages(model, tokenizer, [Stage(ROWS, ROWS)], recipe))
    with pytest.raises(TransientError, match="give the step a larger one"):
        Encoder(model, tokenizer, Card(LABELS, LONGEST)).predict(["good"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_frozen_body_keeps_its_weights_and_all_that_follows_it_learns(tmp_path: Path, architecture: str) -> None:
    settings = Settings(lake=str(tmp_path), model_paths={"tests/own": pretrained(tmp_path / "own", architecture)})
    recipe = Recipe(model="tests/own", revision=REVISION, frozen=True, max_length=LONGEST, learning_rate=0.01)
    model, tokenizer = load_pretrained(recipe, LABELS, settings)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    list(run_stages(model, tokenizer, [Stage(ROWS, ROWS)], recipe))
    kept = {name for name, weight in model.named_parameters() if torch.equal(weight, before[name])}
    assert kept == {name for name in before if ".embeddings." in name or ".layer." in name}


def test_training_leaves_no_pickle(tmp_path: Path) -> None:
    names = {path.name for path in train(tmp_path, "bert").iterdir()}
    assert {"config.json", "model.safetensors", "llambert.json", "tokenizer.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]


def test_a_later_stage_ends_half_way_between_its_weights_before_and_after(tmp_path: Path) -> None:
    settings = Settings(lake=str(tmp_path), model_paths={"tests/bert": pretrained(tmp_path / "bert")})

    def embeddings(name: str, stages: int, *, average: bool) -> torch.Tensor:
        """Train; return weights that calibration leaves alone."""
        recipe = Recipe(model="tests/bert", revision=REVISION, epochs=1, max_length=32, learning_rate=0.01)
        recipe = recipe.model_copy(update={"average_stages": average})
        fine_tune(recipe, LABELS, [ROWS] * stages, HELDOUT, settings, tmp_path / name)
        return load_file(tmp_path / name / "model.safetensors")["bert.embeddings.word_embeddings.weight"]

    before, after = embeddings("before", 1, average=True), embeddings("after", 2, average=False)
    assert not torch.allclose(before, after, atol=1e-3)
    assert torch.allclose(embeddings("mean", 2, average=True), (before + after) / 2, atol=1e-6)


def test_probabilities_teach_instead_of_labels(tmp_path: Path) -> None:
    settings = Settings(lake=str(tmp_path), model_paths={"tests/bert": pretrained(tmp_path / "bert")})
    recipe = Recipe(model="tests/bert", revision=REVISION, epochs=3, max_length=32, learning_rate=0.01)

    def answers(name: str, *soft: float) -> npt.NDArray[np.int64]:
        rows = LabelledTexts(ROWS.texts, ROWS.labels, (soft,) * len(ROWS.texts))
        fine_tune(recipe, LABELS, [rows], HELDOUT, settings, tmp_path / name)
        return Encoder.load(tmp_path / name).logits(ROWS.texts).argmax(axis=1)

    # The labels are half and half; the probabilities lean to one side.
    assert set(answers("first", 0.9, 0.1)) == {0}
    assert set(answers("second", 0.1, 0.9)) == {1}


@pytest.mark.parametrize("soft", [None, ((0.9, 0.1), (0.25, 0.75))], ids=["labels", "probabilities"])
def test_rows_reach_another_process_as_they_are(tmp_path: Path, soft: tuple[tuple[float, ...], ...] | None) -> None:
    stage = Stage(LabelledTexts(("a\n\0", "ü 🎬"), (0, 1), soft), LabelledTexts(("b",), (1,)))
    stage.write(tmp_path / "rows")
    assert read_stage(tmp_path / "rows") == stage


def test_a_stage_without_one_of_the_labels_is_refused(tmp_path: Path) -> None:
    settings = Settings(lake=str(tmp_path))
    recipe = Recipe(model="tests/bert", revision=REVISION)
    with pytest.raises(DataError, match="every label needs two rows or more"):
        fine_tune(recipe, LABELS, [LabelledTexts(("a", "b"), (0, 0))], NONE, settings, tmp_path / "out")


@pytest.mark.parametrize(("batch", "count"), [(16, 3), (1, 2)])
def test_a_batch_that_several_processes_cannot_share_is_refused(tmp_path: Path, batch: int, count: int) -> None:
    recipe = Recipe(model="tests/bert", revision=REVISION, batch_size=batch)
    settings = Settings(lake=str(tmp_path), train_processes=count)
    with pytest.raises(ConfigError, match=rf"{batch} rows cannot be dealt out evenly to {count} processes"):
        fine_tune(recipe, LABELS, [ROWS], NONE, settings, tmp_path / "out")


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
        json.dumps({"labels": ["positive"], "max_length": 32}),
        json.dumps({"labels": list(LABELS), "max_length": 0}),
        json.dumps({"labels": list(LABELS), "max_length": "32"}),
        json.dumps({"labels": list(LABELS), "max_length": 32, "temperature": 2.0}),
        json.dumps({"labels": list(LABELS[::-1]), "max_length": 32}),
    ],
    ids=["not json", "incomplete", "one label", "zero length", "no number", "temperature beside", "other order"],
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
