"""Fine-tunes any sequence classifier on labelled texts, the same way every time for one seed."""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import set_seed

from llambert_etl.config import Recipe
from llambert_etl.encoder.calibration import CALIBRATION, calibrate, fold_temperature
from llambert_etl.encoder.card import RECIPE, Card
from llambert_etl.encoder.checkpoints import Checkpoints
from llambert_etl.encoder.inference import Encoder
from llambert_etl.encoder.inputs import find_padding
from llambert_etl.encoder.kept import Kept
from llambert_etl.encoder.labelled import LabelledTexts, split, unseen
from llambert_etl.encoder.pretrained import load_pretrained
from llambert_etl.encoder.processes import process_count, train_together
from llambert_etl.encoder.stages import epochs, learning_rate, run_stages
from llambert_etl.errors import DataError
from llambert_etl.settings import Settings
from llambert_etl.store.folders import Folder

__all__ = ["LabelledTexts", "fine_tune"]


def fine_tune(
    recipe: Recipe,
    labels: tuple[str, ...],
    stages: Sequence[LabelledTexts],
    heldout: LabelledTexts,
    settings: Settings,
    out: Path,
    after_stage: Callable[[Encoder], None] = lambda encoder: None,
    keep_in: Folder | None = None,
) -> list[float]:
    """Train through `stages` in turn, write the encoder folder `out`, return the dev macro F1 of each stage's end.

    A stage ends with its last epoch, when the learning rate has come down to nothing, or with `patience` with the best
    one on its dev split, which must be large to tell them apart. With `average_stages` a later stage ends with the
    mean of the weights before and after it, which loses less of what was learnt before (Wortsman et al.,
    arXiv:2109.01903).
    The weights are calibrated on `heldout`, or where that is empty on those rows of the last dev split that no stage
    before has learnt from, as far as that helps. `after_stage` sees the encoder as each stage but the last leaves it,
    uncalibrated. Killed, it goes on from the last checkpoint in `keep_in`, or starts again, and comes to the same
    weights.
    Several devices share every batch, a process each. What the calibration found lies in `out`, and the recipe that was
    followed, what the first stage took for defaults filled in.
    Raises DataError for a stage that lacks a label and for a loss that is no number.
    """
    for number, rows in enumerate(stages, 1):
        counts = {label: rows.labels.count(index) for index, label in enumerate(labels)}
        if min(counts.values()) < 2:
            raise DataError(f"training stage {number}: every label needs two rows or more, found {counts}")
    processes = process_count(recipe, settings)
    set_seed(recipe.seed)
    model, tokenizer = load_pretrained(recipe, labels, settings)
    card = Card(labels, recipe.max_length, find_padding(model, tokenizer, recipe))
    splits = [split(rows, recipe.dev_share, recipe.seed) for rows in stages]
    # By the first stage alone, so that it ends where a training without the others would.
    rate = learning_rate(recipe, model, len(splits[0].train.texts))
    followed = recipe.model_copy(update={"learning_rate": rate})
    # Several devices in one process would each be given a whole batch.
    alone = processes == 1 and torch.cuda.device_count() < 2
    train = run_stages if alone else partial(train_together, processes)
    scores = []
    with _checkpoints(out.parent, keep_in, settings, needed=not alone) as checkpoints:
        trained = train(model, tokenizer, splits, followed, card.padding, checkpoints)
        for number, score in enumerate(trained, 1):
            scores.append(score)
            if number < len(stages):
                after_stage(Encoder(model, tokenizer, card))
    calibration = heldout if heldout.texts else unseen(splits)
    logits = Encoder(model, tokenizer, card).logits(calibration.texts)
    found = calibrate(logits, np.asarray(calibration.labels))
    fold_temperature(model, len(labels), found.temperature)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    card.write(out)
    told = followed.model_copy(update={"epochs": epochs(recipe, len(splits[0].train.texts), first=True)})
    (out / CALIBRATION).write_text(json.dumps(found.flat()), encoding="utf-8")
    (out / RECIPE).write_text(told.model_dump_json(), encoding="utf-8")
    return scores


@contextmanager
def _checkpoints(beside: Path, keep_in: Folder | None, settings: Settings, *, needed: bool) -> Iterator[Checkpoints]:
    """Give the checkpoints of a training: those of an earlier try, and new ones, which go where the next looks."""
    if keep_in is None and not needed:
        yield Checkpoints()
        return
    with tempfile.TemporaryDirectory(dir=beside) as scratch:
        if keep_in is None:
            yield Checkpoints(Path(scratch))
            return
        kept = Kept(keep_in, Path(scratch))
        kept.fetch()
        yield Checkpoints(Path(scratch), settings.checkpoint_seconds, kept.push)
