"""The device and its arithmetic: bf16 only where the hardware has it, for emulated bf16 is slower than fp32."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from llambert_etl.errors import TransientError


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def native_bf16() -> bool:
    """Probe the hardware; a version number or a CPU name says less."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def best_precision() -> torch.dtype:
    """Return how weights are best kept here: emulated, bf16 is five times slower than fp32."""
    if native_bf16():
        return torch.bfloat16
    return torch.float16 if torch.cuda.is_available() else torch.float32


# Under autocast DeBERTa (not v2) fills a mask in bf16 with the least number of fp32, and X-MOD puts numbers of one kind
# among those of the other: torch refuses both.
_FP32_ONLY = ("deberta", "xmod")


def bf16_for(model: PreTrainedModel) -> bool:
    """Tell whether this model is to reckon in bf16 here."""
    return native_bf16() and model.config.model_type not in _FP32_ONLY


@contextmanager
def room_on_device(remedy: str) -> Iterator[None]:
    """Raise TransientError, with a remedy, where the GPU has no room for what is done here."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TransientError(
            f"out of memory on the GPU: another process may hold a part of it; if it happens again, {remedy}"
        ) from error
