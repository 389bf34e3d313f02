"""Batches that a device may have no room for."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from llambert_etl.batching import MOST_THREADS, by_length, side_by_side
from llambert_etl.errors import TransientError

Result = TypeVar("Result")
Work = Callable[[Sequence[list[int]]], list[Result]]


def run_batches(
    items: Sequence[list[int]], work: Work[Result], *, tokens: int, device: torch.device, threads: int = MOST_THREADS
) -> list[Result]:
    """Apply `work` to batches of items of like length, at most `tokens` each; return the results in the items' order.

    On a device without room a batch is halved once, then TransientError is raised.
    """
    batches = by_length([len(item) for item in items], tokens)
    found = side_by_side(
        lambda batch: _within_memory([items[index] for index in batch], work), batches, device, threads
    )
    results = {
        index: result for batch, of in zip(batches, found, strict=True) for index, result in zip(batch, of, strict=True)
    }
    return [results[index] for index in range(len(items))]


def _within_memory(batch: Sequence[list[int]], work: Work[Result]) -> list[Result]:
    """Run a batch; where the device has no room for it, run its two halves; where they do not fit either, give up."""
    try:
        return work(batch)
    except torch.OutOfMemoryError:
        halves = [half for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]) if half]
    # Outside the handler: the error holds the failed pass's tensors for as long as it lives.
    torch.cuda.empty_cache()
    try:
        return [result for half in halves for result in work(half)]
    except torch.OutOfMemoryError as error:
        raise TransientError(
            f"out of memory with half a batch of {len(batch)} documents of up to {max(len(item) for item in batch)} "
            "tokens: another process may hold the device; else give the step a larger one"
        ) from error
