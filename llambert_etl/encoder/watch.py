"""Watches a stage of training: says how far it is, stops it, keeps its best weights and where it stands."""

import logging
import math
import time
from collections.abc import Callable

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed

from llambert_etl.encoder.checkpoints import Progress, moments
from llambert_etl.errors import DataError

logger = logging.getLogger(__name__)

Keep = Callable[[Callable[[], Progress]], None]

_APART = 1_000  # more than there are processes


def copy_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


class Watch(TrainerCallback):
    """Say how far training is; with `patience` stop after so many worse epochs and keep the weights of the best.

    `keep` is offered where the stage stands at the end of each epoch that is not the last; it goes on from `begun`.
    """

    def __init__(self, patience: int | None, keep: Keep = lambda standing: None, begun: Progress | None = None) -> None:
        self.score = begun.score if begun else -1.0
        self.best = dict(begun.best) if begun else {}
        self._worse = begun.worse if begun else 0
        self._patience, self._keep, self._started = patience, keep, time.monotonic()

    def on_epoch_begin(  # type: ignore[no-untyped-def]
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs
    ) -> None:
        # From the number of the epoch alone: one that is begun again drops the same units. No two processes do.
        epoch = round(state.epoch or 0)
        set_seed((args.seed + _APART * epoch + args.process_index) % 2**32)

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
        self._judge(score, model, control)
        if not control.should_training_stop and state.global_step < state.max_steps:
            self._keep(lambda: self._standing(state, model, kwargs["optimizer"], kwargs["lr_scheduler"]))

    def _judge(self, score: float, model: torch.nn.Module, control: TrainerControl) -> None:
        if self._patience is None:
            self.score = score
            return
        if score >= self.score:  # of epochs that the dev split cannot tell apart, the last has learnt the most
            self.score, self._worse, self.best = score, 0, copy_of(model)
            return
        self._worse += 1
        control.should_training_stop = self._worse >= self._patience

    def _standing(
        self, state: TrainerState, model: PreTrainedModel, optimizer: Optimizer, scheduler: LRScheduler
    ) -> Progress:
        return Progress(
            epoch=round(state.epoch or 0),
            step=state.global_step,
            score=self.score,
            worse=self._worse,
            model=model.state_dict(),
            best=self.best,
            moments=moments(optimizer),
            rates=scheduler.state_dict(),
        )
