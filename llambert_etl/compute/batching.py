"""Batches of a forward pass: bounded, of like length, and on a processor several at a time."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Batch = TypeVar("Batch")
Result = TypeVar("Result")

# Threads share Python's lock. With more of them, each would wait for it between its operations.
MOST_THREADS = 4


def by_length(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Return the indices of items in batches, longest first: at most `tokens` each with padding.

    A longer item goes alone.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        # Sorted, so the first item of a batch is its longest and sets its width.
        if not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > tokens:
            batches.append([])
        batches[-1].append(index)
    return batches


def side_by_side(
    work: Callable[[Batch], Result], batches: Sequence[Batch], device: torch.device, most: int = MOST_THREADS
) -> list[Result]:
    """Return the result of each batch, in order.

    On a processor each of several threads has a batch and its share of the cores. One operation spread over all cores
    is as slow as the slowest of them, which beside other programs is slow indeed. On a GPU, or with one thread at
    most, the batches follow each other.
    """
    cores = torch.get_num_threads()
    threads = min(cores, most, len(batches))
    if device.type != "cpu" or threads < 2:
        return [work(batch) for batch in batches]
    torch.set_num_threads(cores // threads)
    pool = ThreadPoolExecutor(threads)
    try:
        return list(pool.map(work, batches))
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores)
