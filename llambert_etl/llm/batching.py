"""Batches of bounded size in order of length, results back in the order of the input."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from llambert_etl.errors import TransientError

Result = TypeVar("Result")
Work = Callable[[Sequence[list[int]]], list[Result]]


def run_batches(items: Sequence[list[int]], work: Work[Result], *, tokens: int) -> list[Result]:
    """Apply `work` to batches of items of like length, at most `tokens` each with padding.

    A longer item goes alone. On a device without room a batch is halved once, then TransientError is raised.
    """
    results: dict[int, Result] = {}
    for batch in _batches(items, tokens):
        for index, result in zip(batch, _within_memory([items[index] for index in batch], work), strict=True):
            results[index] = result
    return [results[index] for index in range(len(items))]


def _batches(items: Sequence[list[int]], tokens: int) -> Iterator[list[int]]:
    batch: list[int] = []
    for index in sorted(range(len(items)), key=lambda index: len(items[index])):
        # Sorted, so the newest item is the batch's longest and sets its width.
        if batch and (len(batch) + 1) * len(items[index]) > tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


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
