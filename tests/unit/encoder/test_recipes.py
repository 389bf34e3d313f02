"""What a recipe leaves open suits the rows: rates, epochs, patience, batches."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, TrainerControl, TrainerState, TrainingArguments

from llambert_etl.config import Recipe
from llambert_etl.encoder.checkpoints import Checkpoints, Progress
from llambert_etl.encoder.stages import FullBatches, epochs, learning_rate
from llambert_etl.encoder.watch import Watch
from tests.given.tasks import REVISION


@pytest.mark.parametrize(
    ("width", "rows", "rate"),
    [
        (16, 1_000, 1e-4),
        (384, 1_000, 1e-4),
        (384, 6_000, pytest.approx(5.7e-5, rel=0.02)),
        (384, 25_000, pytest.approx(3.6e-5, rel=0.02)),
        (768, 25_000, 2e-5),
        (1024, 25_000, 1e-5),
    ],
)
def test_a_wider_or_longer_training_has_a_lower_rate_unless_its_recipe_says_otherwise(
    width: int, rows: int, rate: float
) -> None:
    model = BertForSequenceClassification(BertConfig(vocab_size=9, hidden_size=width, num_hidden_layers=0))
    recipe = Recipe(model="tests/bert", revision=REVISION)
    assert learning_rate(recipe, model, rows) == rate
    assert learning_rate(recipe.model_copy(update={"learning_rate": 3e-5}), model, rows) == 3e-5


@pytest.mark.parametrize(
    ("rows", "chosen", "first", "expected"),
    [(5_400, None, True, 3), (900, None, True, 3), (225, None, True, 10), (1, None, True, 150), (225, None, False, 3)]
    + [(225, 5, True, 5), (225, 5, False, 5)],
)
def test_few_rows_are_learnt_from_more_often_unless_the_recipe_says_otherwise(
    rows: int, chosen: int | None, first: bool, expected: int
) -> None:
    recipe = Recipe(model="tests/bert", revision=REVISION, epochs=chosen)
    assert epochs(recipe, rows, first=first) == expected


@pytest.mark.parametrize(
    ("patience", "kept", "stopped"), [(2, (4.0, 0.8), False), (1, (4.0, 0.8), True), (None, (None, 0.7), False)]
)
def test_the_best_epoch_is_kept_only_with_patience_and_of_those_that_dev_cannot_tell_apart_the_last(
    patience: int | None, kept: tuple[float | None, float], stopped: bool, tmp_path: Path
) -> None:
    watch, control = Watch(patience), TrainerControl()
    for score, weight in ((0.5, 1.0), (0.8, 2.0), (0.6, 3.0), (0.8, 4.0), (0.7, 5.0)):
        model = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(model.weight, weight)
        told = {"metrics": {"eval_macro_f1": score}, "model": model}
        watch.on_evaluate(TrainingArguments(str(tmp_path)), TrainerState(), control, **told)
    best = watch.best["weight"].item() if watch.best else None
    assert (best, watch.score) == kept
    assert control.should_training_stop is stopped


def test_patience_goes_on_from_what_it_had_seen_before_the_training_was_killed(tmp_path: Path) -> None:
    seen = {"epoch": 2, "step": 4, "score": 0.8, "worse": 1, "best": {"weight": torch.ones(1)}}
    checkpoints = Checkpoints(tmp_path, seconds=0)
    checkpoints.end_epoch(0, lambda: Progress(**seen, model={}, moments={}, rates={}))
    watch, control = Watch(2, begun=checkpoints.take_epoch(0)), TrainerControl()
    told = {"metrics": {"eval_macro_f1": 0.5}, "model": torch.nn.Linear(1, 1, bias=False)}
    watch.on_evaluate(TrainingArguments(str(tmp_path)), TrainerState(), control, **told)
    assert control.should_training_stop, "two epochs were worse"
    assert (watch.score, watch.best) == (0.8, {"weight": torch.ones(1)})


def test_batches_of_like_length_come_in_no_order_and_leave_nothing_out() -> None:
    lengths = [5 + row % 97 for row in range(1_003)]
    dealt = list(FullBatches(16, lengths, seed=1))
    batches = [[lengths[row] for row in dealt[start : start + 16]] for start in range(0, len(dealt), 16)]
    assert (len(batches), len(batches[-1]), set(dealt)) == (63, 16, set(range(1_003)))
    assert np.mean([np.ptp(batch) for batch in batches]) < 20, "a batch is as mixed as the corpus is"
    means = [np.mean(batch) for batch in batches]
    assert abs(np.corrcoef(means[1:], means[:-1])[0, 1]) < 0.3, "what comes next is like what came before"
