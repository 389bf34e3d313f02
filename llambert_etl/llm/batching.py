"""Batches that a device may have no room for."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from llambert_etl.compute.batching import MOST_THREADS, by_length, side_by_side
from llambert_etl.errors import TransientError

Result = TypeVar("Result")
Work = Callable[[Sequence[list[int]]], list[Result]]


def run_batches(
    items: Sequence[list[int]],
    work: Work[Result],
    *,
    tokens: int,
    device: torch.device,
    beside: int = 0,
    threads: int = MOST_THREADS,
) -> list[Result]:
    """Apply `work` to batches of items of like length, at most `tokens` each; return the results in the items' order.

    `beside` is how many tokens more each item takes room for. On a device without room a batch is halved until it
    fits; raise TransientError where a single item does not.
    """
    batches = by_length([beside + len(item) for item in items], tokens)
    found = side_by_side(
        lambda batch: _within_memory([items[index] for index in batch], work), batches, device, threads
    )
    results = {
        index: result for batch, of in zip(batches, found, strict=True) for index, result in zip(batch, of, strict=True)
    }
    return [results[index] for index in range(len(items))]


def _within_memory(batch: Sequence[list[int]], work: Work[Result]) -> list[Result]:
    """Run a batch; where the device has no room for it, run its two halves, one after the other."""
    try:
        return work(batch)
    except torch.OutOfMemoryError as error:
        if len(batch) == 1:
            raise TransientError(
                f"out of memory with a single document of {len(batch[0])} tokens: another process may hold the device; "
                "else give the step a larger one"
            ) from error
    # Outside the handler: the error holds the failed pass's tensors for as long as it lives.
    torch.cuda.empty_cache()
    middle = len(batch) // 2
    return [result for half in (batch[:middle], batch[middle:]) for result in _within_memory(half, work)]
