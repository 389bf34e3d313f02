"""Where a training stands: the weights of stages that are over and all of the last epoch, in files without a pickle."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel

Weights = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Progress:
    """A stage at the end of one of its epochs; `best` are the weights that patience would go back to."""

    epoch: int
    step: int
    score: float
    worse: int
    model: Weights
    best: Weights
    moments: Weights
    rates: Mapping[str, object]

    def resume(self, optimizer: Optimizer, scheduler: LRScheduler) -> None:
        """Give both the state that they had. The model was given its weights before."""
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in self.moments.items():
            index, _, kind = name.partition(".")
            state.setdefault(int(index), {})[kind] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        scheduler.load_state_dict(dict(self.rates))
        for group, rate in zip(optimizer.param_groups, scheduler.get_last_lr(), strict=True):
            group["lr"] = rate


def moments(optimizer: Optimizer) -> Weights:
    """Return the optimizer's state of each parameter, by `<number>.<kind>`."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{kind}": tensor for index, kinds in state.items() for kind, tensor in kinds.items()}


@dataclass
class Checkpoints:
    """Those of one training, in a local folder; each appears whole. Without a folder there are none.

    `seconds` must have passed since the last one before the end of an epoch is written; with None no epoch's ever is.
    `written` is called after each. Of several processes one `writes`.
    """

    folder: Path | None = None
    seconds: float | None = None
    written: Callable[[], None] = lambda: None
    writes: bool = True
    _last: float = field(default_factory=time.monotonic)

    def end_stage(self, number: int, model: PreTrainedModel, score: float) -> None:
        if self.writes:
            self._write(f"stage-{number}", model.state_dict(), {"score": score})

    def take_stage(self, number: int, model: PreTrainedModel) -> float | None:
        """Return the score of a stage that is over, and give `model` the weights that it ended with."""
        found = self._read(f"stage-{number}")
        if found is None:
            return None
        weights, told = found
        model.load_state_dict(weights)
        return float(told["score"])

    def end_epoch(self, number: int, standing: Callable[[], Progress]) -> None:
        if not self.writes or self.seconds is None or time.monotonic() - self._last < self.seconds:
            return
        now = standing()
        parts = {"model": now.model, "best": now.best, "moments": now.moments}
        tensors = {f"{part}/{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
        told = {name: getattr(now, name) for name in ("epoch", "step", "score", "worse", "rates")}
        self._write(f"stage-{number}-epoch-{now.epoch:04}", tensors, told)

    def take_epoch(self, number: int) -> Progress | None:
        """Return where a stage stood last."""
        files = sorted(self.folder.glob(f"stage-{number}-epoch-*.safetensors")) if self.folder else []
        found = self._read(files[-1].stem) if files else None
        if found is None:
            return None
        parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "best": {}, "moments": {}}
        for name, tensor in found[0].items():
            part, _, rest = name.partition("/")
            parts[part][rest] = tensor
        told: dict[str, Any] = {**found[1], **parts}
        return Progress(**told)

    def _write(self, name: str, tensors: Weights, told: Mapping[str, Any]) -> None:
        if self.folder is None:
            return
        part = self.folder / f"{name}.part"
        # Copied: weights may share their memory, which the format does not have.
        alone = {key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in tensors.items()}
        save_file(alone, part, {"told": json.dumps(told)})
        part.rename(self.folder / f"{name}.safetensors")
        self.written()
        self._last = time.monotonic()

    def _read(self, name: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        path = self.folder / f"{name}.safetensors" if self.folder else None
        if path is None or not path.exists():
            return None
        with safe_open(path, framework="pt") as file:
            # Copied: the optimizer goes on in the very memory that it is given, which would be that of the file.
            weights = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
            return weights, json.loads(file.metadata()["told"])
