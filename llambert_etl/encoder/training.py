"""Fine-tunes any sequence classifier on labelled texts, the same way every time for one seed."""

import hashlib
import logging
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import f1_score
from transformers import (
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from llambert_etl.config import Encoder as Recipe
from llambert_etl.encoder.calibration import fit_temperature, fold_temperature
from llambert_etl.encoder.card import Card
from llambert_etl.encoder.inference import Encoder
from llambert_etl.encoder.precision import native_bf16
from llambert_etl.encoder.pretrained import load_pretrained
from llambert_etl.errors import DataError
from llambert_etl.settings import Settings

logger = logging.getLogger(__name__)


Target = int | tuple[float, ...]


@dataclass(frozen=True)
class Labelled:
    """Texts and the index of each one's label; `soft` has the probability of every label instead, to learn from."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]
    soft: tuple[tuple[float, ...], ...] | None = None

    @property
    def targets(self) -> Sequence[Target]:
        return self.labels if self.soft is None else self.soft


def split(rows: Labelled, share: float, seed: int) -> tuple[Labelled, Labelled]:
    """Return (train, dev). Each label gives its `share` to dev, by hash of the text, whatever the order of the rows."""
    ranked = sorted(
        range(len(rows.texts)),
        key=lambda row: (rows.labels[row], hashlib.sha256(f"{seed}:{rows.texts[row]}".encode()).digest()),
    )
    train: list[int] = []
    dev: list[int] = []
    for label in sorted(set(rows.labels)):
        own = [row for row in ranked if rows.labels[row] == label]
        held = max(1, round(len(own) * share))
        dev += own[:held]
        train += own[held:]
    return _take(rows, train), _take(rows, dev)


def _take(rows: Labelled, chosen: Sequence[int]) -> Labelled:
    soft = None if rows.soft is None else tuple(rows.soft[row] for row in chosen)
    return Labelled(tuple(rows.texts[row] for row in chosen), tuple(rows.labels[row] for row in chosen), soft)


def fine_tune(
    recipe: Recipe,
    labels: tuple[str, ...],
    stages: Sequence[Labelled],
    heldout: Labelled,
    settings: Settings,
    out: Path,
    after_stage: Callable[[Encoder], None] = lambda encoder: None,
) -> list[float]:
    """Train through `stages` in turn, write the encoder folder `out`, return the dev macro F1 of each stage's end.

    A stage ends with its best epoch on its dev split. With `average_stages` a later one, whose dev split is often too
    small to choose by, ends with the mean of the weights before and after it, which loses less of what was learnt
    before (Wortsman et al., arXiv:2109.01903).
    The weights are calibrated on `heldout`, or on the last dev split where that is empty. `after_stage` sees the
    encoder as each stage but the last leaves it, uncalibrated. Killed, it starts again and comes to the same weights.
    Raises DataError for a stage that lacks a label and for a loss that is no number.
    """
    for number, rows in enumerate(stages, 1):
        counts = {label: rows.labels.count(index) for index, label in enumerate(labels)}
        if min(counts.values()) < 2:
            raise DataError(f"training stage {number}: every label needs two rows or more, found {counts}")
    set_seed(recipe.seed)
    model, tokenizer = load_pretrained(recipe, labels, settings)
    if recipe.frozen:
        model.base_model.requires_grad_(False)
    card, scores, dev = Card(labels, recipe.max_length), [], heldout
    for number, rows in enumerate(stages, 1):
        train, dev = split(rows, recipe.dev_share, recipe.seed)
        average = recipe.average_stages and number > 1
        scores.append(_run_stage(model, tokenizer, train, dev, recipe, len(labels), average=average))
        if number < len(stages):
            after_stage(Encoder(model, tokenizer, card))
    calibration = heldout if heldout.texts else dev
    logits = Encoder(model, tokenizer, card).logits(calibration.texts)
    fold_temperature(model, len(labels), fit_temperature(logits, np.asarray(calibration.labels)))
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    card.write(out)
    return scores


def _run_stage(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Labelled,
    dev: Labelled,
    recipe: Recipe,
    classes: int,
    *,
    average: bool,
) -> float:
    before = _copy(model) if average else {}
    keeper = _KeepBest(recipe.epochs if average else recipe.patience)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            model=model,
            args=_arguments(recipe, scratch, len(train.texts)),
            data_collator=DataCollatorWithPadding(tokenizer),
            train_dataset=_encode(tokenizer, train.texts, train.targets, recipe.max_length),
            eval_dataset=_encode(tokenizer, dev.texts, dev.labels, recipe.max_length),
            processing_class=tokenizer,
            compute_loss_func=_loss(train, classes, weighted=recipe.class_weights),
            compute_metrics=lambda prediction: _macro_f1(prediction, classes),
            callbacks=[keeper],
        )
        trainer.remove_callback(PrinterCallback)  # it prints on stdout, where only the manifest belongs
        trainer.train()
        model.load_state_dict(_mean(before, _copy(model)) if average else keeper.weights)
        return float(trainer.evaluate()["eval_macro_f1"]) if average else keeper.best


def _copy(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _mean(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name: torch.lerp(one[name], other[name], 0.5) if one[name].is_floating_point() else one[name] for name in one
    }


def _arguments(recipe: Recipe, scratch: str, rows: int) -> TrainingArguments:
    steps = math.ceil(rows / recipe.batch_size) * recipe.epochs
    return TrainingArguments(
        output_dir=scratch,
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=64,
        warmup_steps=max(1, steps // 10),
        weight_decay=0.01,
        train_sampling_strategy="group_by_length",
        bf16=native_bf16(),
        use_cpu=not torch.cuda.is_available(),
        eval_strategy="epoch",
        save_strategy="no",  # the best weights are kept in memory: checkpoints would hold pickles
        logging_steps=max(1, steps // 10),
        logging_nan_inf_filter=False,  # on, it would hide the very loss that must stop the run
        disable_tqdm=True,
        report_to=[],
        seed=recipe.seed,
        data_seed=recipe.seed,
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def _encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], targets: Sequence[Target], max_length: int
) -> list[dict[str, object]]:
    ids = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    return [
        {"input_ids": row, "attention_mask": [1] * len(row), "labels": target}
        for row, target in zip(ids, targets, strict=True)
    ]


def _macro_f1(prediction: EvalPrediction, classes: int) -> dict[str, float]:
    predicted: npt.NDArray[np.int64] = np.asarray(prediction.predictions).argmax(axis=1)
    truth = np.asarray(prediction.label_ids)
    return {
        "macro_f1": float(
            f1_score(
                truth,
                predicted,
                labels=range(classes),
                average="macro",
                zero_division=0,
            )
        )
    }


def _loss(rows: Labelled, classes: int, *, weighted: bool):  # type: ignore[no-untyped-def]
    """Return cross-entropy for labels or probabilities; None where the model's own does."""
    if not weighted and rows.soft is None:
        return None
    counts = np.bincount(rows.labels, minlength=classes)
    weights = torch.tensor(len(rows.labels) / (classes * counts), dtype=torch.float32) if weighted else None

    def loss(outputs, labels, num_items_in_batch=None):  # type: ignore[no-untyped-def]
        on_device = None if weights is None else weights.to(labels.device)
        return torch.nn.functional.cross_entropy(outputs.logits.float(), labels, on_device)

    return loss


class _KeepBest(TrainerCallback):
    """Keep the weights of the best epoch, stop after `patience` worse ones, and say how far training is."""

    def __init__(self, patience: int) -> None:
        self.best = -1.0
        self.weights: dict[str, torch.Tensor] = {}
        self._patience, self._worse, self._started = patience, 0, time.monotonic()

    def on_log(  # type: ignore[no-untyped-def]
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs=None, **kwargs
    ) -> None:
        for name in ("loss", "eval_loss"):
            if name in logs and not math.isfinite(logs[name]):
                raise DataError(
                    f"training: {name} is {logs[name]} at step {state.global_step}; lower encoder.learning_rate"
                )
        if "loss" in logs:
            seconds = time.monotonic() - self._started
            logger.info(
                "step %d of %d, loss %.3f, %.0f s",
                state.global_step,
                state.max_steps,
                logs["loss"],
                seconds,
            )

    def on_evaluate(  # type: ignore[no-untyped-def]
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics=None, model=None, **kwargs
    ) -> None:
        score = metrics["eval_macro_f1"]
        logger.info("epoch %.0f, dev macro F1 %.4f", state.epoch or 0, score)
        if score > self.best:
            self.best, self._worse = score, 0
            self.weights = _copy(model)
            return
        self._worse += 1
        control.should_training_stop = self._worse >= self._patience
