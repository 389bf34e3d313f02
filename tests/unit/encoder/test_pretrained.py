"""The encoders that training starts from: what is opened of them, and which are refused."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForSequenceClassification

from llambert_etl.config import Recipe
from llambert_etl.encoder.pretrained import load_pretrained
from llambert_etl.errors import ConfigError
from llambert_etl.settings import Settings
from tests.given.tasks import REVISION
from tests.models.encoders import ARCHITECTURES, LABELS, LONGEST, pretrained


def test_a_checkpoint_in_16_bits_is_trained_in_32(tmp_path: Path) -> None:
    settings = Settings(lake=str(tmp_path), model_paths={"tests/bert": pretrained(tmp_path / "bert")})
    BertForSequenceClassification.from_pretrained(tmp_path / "bert").half().save_pretrained(tmp_path / "bert")
    recipe = Recipe(model="tests/bert", revision=REVISION, max_length=LONGEST)
    assert load_pretrained(recipe, LABELS, settings)[0].dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "models of 'tests' are not allowed here.*LLAMBERT_MODEL_ORGS"),
        ({"model_paths": {"tests/bert": Path("/nowhere/model")}}, "no /nowhere/model; mend LLAMBERT_MODEL_PATHS"),
        ({"model_paths": {"tests/bert": Path(__file__).parent}}, "is not an encoder with safetensors weights"),
    ],
    ids=["not allowed", "no mirror", "no model in the mirror"],
)
def test_a_pretrained_encoder_that_cannot_be_used_is_refused(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    recipe = Recipe(model="tests/bert", revision=REVISION)
    with pytest.raises(ConfigError, match=message):
        load_pretrained(recipe, LABELS, Settings(lake=str(tmp_path), **settings))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_encoder_whose_file_lacks_a_layer_is_refused(tmp_path: Path, architecture: str) -> None:
    folder = pretrained(tmp_path / "own", architecture)
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if ".layer.0." in name)
    kept = {name: weight for name, weight in weights.items() if name != lost}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    recipe = Recipe(model="tests/own", revision=REVISION, max_length=LONGEST)
    with pytest.raises(ConfigError, match=f"1 weights that its config.json asks for .* {re.escape(lost)} among them"):
        load_pretrained(recipe, LABELS, Settings(lake=str(tmp_path), model_paths={"tests/own": folder}))


@pytest.mark.parametrize(
    "written", ["[]", '{"model_type": "bert", "hidden_size": "wide"}', '{"model_type": "bert", "hidden_size": 24}']
)
def test_an_odd_encoder_folder_is_refused(tmp_path: Path, written: str) -> None:
    folder = pretrained(tmp_path / "own")
    (folder / "config.json").write_text(written)
    recipe = Recipe(model="tests/own", revision=REVISION, max_length=LONGEST)
    with pytest.raises(ConfigError, match="encoder.model 'tests/own': "):
        load_pretrained(recipe, LABELS, Settings(lake=str(tmp_path), model_paths={"tests/own": folder}))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_more_tokens_than_an_encoder_has_positions_for_are_refused(architecture: str, tmp_path: Path) -> None:
    settings = Settings(lake=str(tmp_path), model_paths={"tests/tiny": pretrained(tmp_path / "tiny", architecture)})
    recipe = Recipe(model="tests/tiny", revision=REVISION, max_length=LONGEST + 1)
    with pytest.raises(ConfigError, match=rf"encoder\.max_length: {LONGEST + 1} exceeds .* {LONGEST} tokens"):
        load_pretrained(recipe, LABELS, settings)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_attention_is_dropped_out_as_the_recipe_says(architecture: str, tmp_path: Path) -> None:
    pretrained(tmp_path / architecture, architecture)
    settings = Settings(lake=str(tmp_path), model_paths={"tests/encoder": tmp_path / architecture})
    recipe = Recipe(model="tests/encoder", revision=REVISION, max_length=LONGEST, attention_dropout=0.25)
    model, _ = load_pretrained(recipe, LABELS, settings)
    attentions = [module for module in model.modules() if type(module).__name__.endswith("SelfAttention")]
    assert attentions
    assert {module.dropout.p for module in attentions} == {0.25}


def test_a_mirrored_encoder_needs_no_allowed_organisation(tmp_path: Path) -> None:
    settings = Settings(lake=str(tmp_path), model_orgs=[], model_paths={"tests/bert": pretrained(tmp_path / "bert")})
    recipe = Recipe(model="tests/bert", revision=REVISION, max_length=32)
    model, _ = load_pretrained(recipe, LABELS, settings)
    assert model.config.num_labels == len(LABELS)
