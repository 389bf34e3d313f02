"""The device and its arithmetic: bf16 only where the hardware has it, for emulated bf16 is slower than fp32."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from llambert_etl.errors import TransientError


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def native_bf16() -> bool:
    """Probe the hardware; a version number or a CPU name says less."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextmanager
def room_on_device(remedy: str) -> Iterator[None]:
    """Raise TransientError, with a remedy, where the GPU has no room for what is done here."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TransientError(
            f"out of memory on the GPU: another process may hold a part of it; if it happens again, {remedy}"
        ) from error
