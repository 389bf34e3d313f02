"""Nothing beside an encoder's weights is run, whatever it is called and whatever points to it."""

import subprocess
import sys
from pathlib import Path

import pytest

from llambert_etl.config import Recipe
from llambert_etl.encoder.inference import Encoder
from llambert_etl.encoder.pretrained import load_pretrained
from llambert_etl.errors import ConfigError
from llambert_etl.settings import Settings
from tests.given.tasks import REVISION
from tests.models.encoders import LABELS, crafted, pretrained
from tests.models.traps import point_to_traps, set_traps

RECIPE = Recipe(model="tests/bert", revision=REVISION, max_length=32)


@pytest.mark.parametrize(
    "opens",
    ["import pickle; pickle.load(open('python_model.pkl', 'rb'))", "import sys; sys.path[0] = 'code'; import trap"],
)
def test_the_traps_of_these_tests_go_off(tmp_path: Path, opens: str) -> None:
    set_traps(tmp_path, tmp_path / "ran")
    subprocess.run([sys.executable, "-c", opens], cwd=tmp_path, check=True)
    assert (tmp_path / "ran").exists()


def test_what_lies_beside_a_trained_encoder_never_runs(tmp_path: Path) -> None:
    folder = crafted(tmp_path / "encoder", "positive")
    set_traps(folder, tmp_path / "ran")
    point_to_traps(folder)
    assert Encoder.load(folder).predict(["good"]).argmax() == LABELS.index("positive")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("weights", ["safetensors beside", "pickles alone"])
def test_what_lies_beside_a_published_encoder_never_runs(tmp_path: Path, weights: str) -> None:
    folder = pretrained(tmp_path / "bert")
    set_traps(folder, tmp_path / "ran")
    point_to_traps(folder)
    settings = Settings(lake=str(tmp_path), model_paths={RECIPE.model: folder})
    if weights == "pickles alone":
        (folder / "model.safetensors").unlink()
        with pytest.raises(ConfigError, match="is not an encoder with safetensors weights"):
            load_pretrained(RECIPE, LABELS, settings)
    else:
        load_pretrained(RECIPE, LABELS, settings)
    assert not (tmp_path / "ran").exists()
