"""Runs the stages of training, in the one process or in each of several that share every batch."""

import logging
import math
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import f1_score
from torch.utils.data import Dataset, Sampler
from transformers import (
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

from llambert_etl.compute.device import bf16_for, device, room_on_device
from llambert_etl.config import Recipe
from llambert_etl.encoder.card import Padding
from llambert_etl.encoder.checkpoints import Checkpoints, Progress
from llambert_etl.encoder.inputs import token_ids
from llambert_etl.encoder.labelled import LabelledTexts, Stage, Target
from llambert_etl.encoder.watch import Keep, Watch, copy_of

logger = logging.getLogger(__name__)

# From these widths on: what RoBERTa-large (arXiv:1907.11692) and BERT-base (arXiv:1810.04805) were tuned among was 1e-5
# to 3e-5 and 2e-5 to 5e-5.
_BASE = 768
_LEARNING_RATES = {1024: 1e-5, _BASE: 2e-5}
# Small BERTs were tuned among 3e-5 to 3e-4 (arXiv:1908.08962): the longer the training, the lower the best rate
# (arXiv:2409.19913). With the highest one, thousands of steps learn an LLM's mistakes by heart.
_SMALL_RATE, _SMALL_STEPS, _SMALL_DECAY = 1e-4, 200, 0.32


# The Trainer's own. Where a rare label's rows weigh 25, their gradients are 25 times as large: with the same limit each
# batch that holds one is cut down to the size of any other, and the weights are gone. So the limit grows with them. A
# mean over weights instead of rows would take them away in the same manner, batch by batch.
_MAX_GRAD_NORM = 1.0

# A new head on few rows learns nothing in three epochs: in 36 steps on 180 snippets 62 % right, in 100 steps 72 %
# (arXiv:2006.05987 and arXiv:2006.04884 found the same of BERT).
_EPOCHS, _LEAST_STEPS = 3, 150


def epochs(recipe: Recipe, rows: int, *, first: bool) -> int:
    """Return the recipe's epochs, or how many suit a stage of so many rows: the first begins with a new head."""
    if recipe.epochs is not None:
        return recipe.epochs
    least = math.ceil(_LEAST_STEPS / math.ceil(rows / recipe.batch_size)) if first else 0
    return max(_EPOCHS, least)


def learning_rate(recipe: Recipe, model: PreTrainedModel, rows: int) -> float:
    """Return the recipe's learning rate, or the one that suits an encoder of this width and so many rows."""
    if recipe.learning_rate is not None:
        return recipe.learning_rate
    hidden = getattr(model.config.get_text_config(), "hidden_size", _BASE)  # Perceiver has widths of other names
    for width, rate in _LEARNING_RATES.items():
        if hidden >= width:
            return rate
    steps = math.ceil(rows / recipe.batch_size) * epochs(recipe, rows, first=True)
    return _SMALL_RATE * math.pow(min(1.0, _SMALL_STEPS / steps), _SMALL_DECAY)


def run_stages(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    stages: Sequence[Stage],
    recipe: Recipe,
    padding: Padding = "right",
    checkpoints: Checkpoints | None = None,
) -> Iterator[float]:
    """Train through `stages` in turn, all at the recipe's learning rate, which must be filled in.

    Yield the dev macro F1 of each, when `model` is as it ends. What `checkpoints` hold is not trained again.
    """
    if recipe.frozen:
        _freeze(model)
    for number, stage in enumerate(stages):
        average = recipe.average_stages and number > 0
        rounds = epochs(recipe, len(stage.train.texts), first=number == 0)
        followed = recipe.model_copy(update={"epochs": rounds, "patience": None if average else recipe.patience})
        saved = checkpoints or Checkpoints()
        score = saved.take_stage(number, model)
        if score is None:
            keep = partial(saved.end_epoch, number)
            score = _run_stage(
                model, tokenizer, stage, followed, padding, average=average, keep=keep, begun=saved.take_epoch(number)
            )
            saved.end_stage(number, model, score)
        yield score


def _freeze(model: PreTrainedModel) -> None:
    """Leave what stands between the last layer and the labels to be trained: for BERT its pooler too.

    RoBERTa and DistilBERT have such a layer in their head. The pooler of a checkpoint is often a leftover: with
    all-MiniLM-L6-v2's as it is, 1,000 IMDb reviews teach a head next to nothing.
    """
    model.base_model.requires_grad_(False)
    if pooler := getattr(model.base_model, "pooler", None):
        pooler.requires_grad_(True)


@room_on_device("lower encoder.max_length, or encoder.batch_size")  # from the first: a Trainer takes the model there
def _run_stage(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    stage: Stage,
    recipe: Recipe,
    padding: Padding,
    *,
    average: bool,
    keep: Keep,
    begun: Progress | None,
) -> float:
    classes = len(model.config.id2label or ())
    weights = _weights(stage.train, classes) if recipe.class_weights else None
    before = copy_of(model) if average else {}
    if begun is not None:
        logger.info("going on after epoch %d, which an earlier try came to", begun.epoch)
        model.load_state_dict(begun.model)
    watch = Watch(recipe.patience, keep, begun)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = _Trainer(
            model=model,
            args=_arguments(recipe, scratch, len(stage.train.texts), weights, bf16=bf16_for(model)),
            data_collator=DataCollatorWithPadding(
                tokenizer, "max_length" if padding == "full" else "longest", recipe.max_length
            ),
            train_dataset=_encode(tokenizer, stage.train.texts, stage.train.targets, recipe.max_length),
            eval_dataset=_encode(tokenizer, stage.dev.texts, stage.dev.labels, recipe.max_length),
            processing_class=tokenizer,
            compute_loss_func=_loss(stage.train, weights),
            compute_metrics=lambda prediction: _macro_f1(prediction, classes),
            preprocess_logits_for_metrics=_logits_alone,
            callbacks=[watch],
        )
        trainer.remove_callback(PrinterCallback)  # it prints on stdout, where only the manifest belongs
        trainer.begun = begun
        logger.info("training on %d rows with learning rate %g", len(stage.train.texts), recipe.learning_rate)
        trainer.train()
        if average:
            model.load_state_dict(_mean(before, copy_of(model)))
            return float(trainer.evaluate()["eval_macro_f1"])
        if watch.best:  # every process has seen the same scores and keeps the same weights
            model.load_state_dict(watch.best)
        return watch.score


class _Trainer(Trainer):
    """Learns from the same rows in each step, however many processes share them and wherever it begins."""

    begun: Progress | None = None

    def _get_train_sampler(self, train_dataset: Dataset[object] | None = None) -> Sampler[int]:
        lengths = [len(row["input_ids"]) for row in self.train_dataset]  # type: ignore[union-attr]  # a list of dicts
        return FullBatches(self.args.train_batch_size * self.args.world_size, lengths, self.args.seed)

    # Its own way of going on reads pickles, and models of a folder each.
    def _init_training_state(self, *args: object) -> tuple[int, int]:
        begins: tuple[int, int] = super()._init_training_state(*args)
        if self.begun is None:
            return begins
        self.state.global_step, self.state.epoch = self.begun.step, float(self.begun.epoch)
        return self.begun.epoch, 0

    def _prepare_for_training(self, *args: object) -> object:
        prepared: object = super()._prepare_for_training(*args)  # type: ignore[no-untyped-call]
        if self.begun is not None and self.optimizer is not None and self.lr_scheduler is not None:
            self.begun.resume(self.optimizer, self.lr_scheduler)
        return prepared


class FullBatches(LengthGroupedSampler):
    """Batches of rows of like length, in any order, the last one filled up so that it too can be dealt out evenly."""

    def __init__(self, batch_size: int, lengths: Sequence[int], seed: int) -> None:
        # Not the process's own random numbers: those part ways with the dropout of texts of other lengths.
        generator = torch.Generator().manual_seed(seed)
        super().__init__(batch_size, lengths=list(lengths), generator=generator)
        self._seed = seed

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch as it would begin after the ones before it: an interrupted training goes on with it."""
        self.generator.manual_seed(self._seed + epoch)

    def __len__(self) -> int:
        return math.ceil(len(self.lengths) / self.batch_size) * self.batch_size

    def __iter__(self) -> Iterator[int]:
        again = torch.randint(len(self.lengths), [len(self) - len(self.lengths)], generator=self.generator)
        # They come sorted, dozens of batches at a time: a model that sees long texts first ends on the short ones.
        rows = [*super().__iter__(), *again.tolist()]  # type: ignore[no-untyped-call]
        batches = torch.tensor(rows).view(-1, self.batch_size)
        return iter(batches[torch.randperm(len(batches), generator=self.generator)].flatten().tolist())


def _logits_alone(outputs: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
    """Leave out what T5 and BART give beside them: the states of every token of the dev split."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


def _mean(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name: torch.lerp(one[name], other[name], 0.5) if one[name].is_floating_point() else one[name] for name in one
    }


def _arguments(
    recipe: Recipe, scratch: str, rows: int, weights: torch.Tensor | None, *, bf16: bool
) -> TrainingArguments:
    processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    rounds = epochs(recipe, rows, first=True)
    steps = math.ceil(rows / recipe.batch_size) * rounds
    return TrainingArguments(
        output_dir=scratch,
        num_train_epochs=rounds,
        learning_rate=recipe.learning_rate,  # type: ignore[arg-type]  # filled in by fine_tune
        per_device_train_batch_size=recipe.batch_size // processes,
        per_device_eval_batch_size=64,
        warmup_steps=max(1, steps // 10),
        weight_decay=0.01,
        max_grad_norm=_MAX_GRAD_NORM * (1.0 if weights is None else float(weights.max())),
        # Else it multiplies the loss by the number of processes, for models that say they divide it and do not.
        average_tokens_across_devices=False,
        bf16=bf16,
        use_cpu=device().type == "cpu",
        eval_strategy="epoch",
        save_strategy="no",  # the best weights are kept in memory: checkpoints would hold pickles
        logging_steps=max(1, steps // 10),
        logging_nan_inf_filter=False,  # on, it would hide the very loss that must stop the run
        disable_tqdm=True,
        report_to=[],
        seed=recipe.seed,
        dataloader_pin_memory=device().type == "cuda",
    )


def _encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], targets: Sequence[Target], max_length: int
) -> list[dict[str, object]]:
    return [
        {"input_ids": row, "attention_mask": [1] * len(row), "labels": target}
        for row, target in zip(token_ids(tokenizer, texts, max_length), targets, strict=True)
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


def _weights(rows: LabelledTexts, classes: int) -> torch.Tensor:
    """Return a weight for each label, with which all labels count the same and a row counts 1 on average."""
    counts = np.bincount(rows.labels, minlength=classes)
    return torch.tensor(len(rows.labels) / (classes * counts), dtype=torch.float32)


def _loss(rows: LabelledTexts, weights: torch.Tensor | None):  # type: ignore[no-untyped-def]
    """Return cross-entropy for labels or probabilities; None where the model's own does."""
    if weights is None and rows.soft is None:
        return None

    def loss(outputs, labels, num_items_in_batch=None):  # type: ignore[no-untyped-def]
        on_device = None if weights is None else weights.to(labels.device)
        # A mean over rows, not over their weights: so the mean over processes is that of the whole batch.
        return torch.nn.functional.cross_entropy(outputs.logits.float(), labels, on_device, reduction="none").mean()

    return loss
