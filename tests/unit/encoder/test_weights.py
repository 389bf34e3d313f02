"""Class weights: what a rare label counts, and that even ones count what they did."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from llambert_etl.config import Recipe
from llambert_etl.encoder.inference import Encoder
from llambert_etl.encoder.training import LabelledTexts, fine_tune
from llambert_etl.settings import Settings
from tests.given.tasks import REVISION
from tests.models.encoders import LABELS, pretrained

NONE = LabelledTexts((), ())
EVEN = LabelledTexts(tuple(f"the film {word}" for word in ("good", "bad") * 10), (0, 1) * 10)


def learnt(root: Path, rows: LabelledTexts, *, class_weights: bool, epochs: int = 3) -> npt.NDArray[np.float64]:
    """Train in steps that are as long for every recipe; return what becomes of a text of each label."""
    if not (root / "bert").exists():
        pretrained(root / "bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    settings = Settings(lake=str(root), model_paths={"tests/bert": root / "bert"})
    recipe = Recipe(model="tests/bert", revision=REVISION, epochs=epochs, max_length=32, learning_rate=0.003)
    recipe = recipe.model_copy(update={"class_weights": class_weights})
    out = root / f"weighted {class_weights}"
    fine_tune(recipe, LABELS, [rows], NONE, settings, out)
    return Encoder.load(out).predict(["the film good", "the film bad"])


@pytest.mark.parametrize("soft", [False, True], ids=["labels", "probabilities"])
def test_with_class_weights_a_label_of_one_row_in_a_hundred_counts_as_much_as_the_other(
    soft: bool, tmp_path: Path
) -> None:
    labels = tuple(int(number % 100 > 0) for number in range(400))
    texts = tuple(f"the film {('good', 'bad')[label]} {number}" for number, label in enumerate(labels))
    certain = tuple((1.0 - label, float(label)) for label in labels)
    rows = LabelledTexts(texts, labels, certain if soft else None)
    plain, weighted = (learnt(tmp_path, rows, class_weights=weights)[:, 0].mean() for weights in (False, True))
    # Before it can tell the two apart, an encoder knows how often each comes, or how much each counts.
    assert plain < 0.1
    assert weighted > 0.25


def test_class_weights_change_nothing_where_labels_are_even(tmp_path: Path) -> None:
    plain, weighted = (learnt(tmp_path, EVEN, class_weights=weights, epochs=10) for weights in (False, True))
    assert weighted == pytest.approx(plain, abs=1e-3)
