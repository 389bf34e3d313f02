"""Batches of a forward pass: bounded, of like length, on a processor several at a time, on a full GPU ever smaller."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import torch

from llambert_etl.errors import TransientError

logger = logging.getLogger(__name__)

Batch = TypeVar("Batch")
Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Sequence[list[int]]], Sequence[Result]]

# Threads share Python's lock. With more of them, each would wait for it between its operations.
MOST_THREADS = 4


@dataclass
class Capacity:
    """How many tokens a batch may take room for. Where the device has no room for so many, it is halved for good."""

    tokens: int


def run_batches(
    items: Sequence[list[int]],
    work: Work[Result],
    *,
    capacity: Capacity,
    device: torch.device,
    room: Callable[[list[int]], int] = len,
    threads: int = MOST_THREADS,
) -> list[Result]:
    """Apply `work` to batches of items of like length, within the capacity; return the results in the items' order.

    `room` tells how many tokens an item takes room for. On a device without room a batch is halved until it fits, and
    so are those after it; raise TransientError where a single item does not.
    """
    batches = by_length([room(item) for item in items], capacity.tokens)
    found = side_by_side(
        lambda batch: _within_memory([items[index] for index in batch], work, capacity, room), batches, device, threads
    )
    results = {
        index: result for batch, of in zip(batches, found, strict=True) for index, result in zip(batch, of, strict=True)
    }
    return [results[index] for index in range(len(items))]


def _within_memory(
    batch: Sequence[list[int]], work: Work[Result], capacity: Capacity, room: Callable[[list[int]], int]
) -> Sequence[Result]:
    """Run a batch; where the device has no room for it, run its two halves, one after the other."""
    taken = len(batch) * max(map(room, batch))
    if taken <= capacity.tokens or len(batch) == 1:
        try:
            return work(batch)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise TransientError(
                    f"out of memory with a single document of {len(batch[0])} tokens: another process may hold the "
                    "device; else give the step a larger one"
                ) from error
        # Outside the handler: the error holds the failed pass's tensors for as long as it lives.
        torch.cuda.empty_cache()
        capacity.tokens = taken // 2
        logger.info("no room on the device for a batch of %d tokens: from now on they have half as many", taken)
    middle = len(batch) // 2
    return [
        result for half in (batch[:middle], batch[middle:]) for result in _within_memory(half, work, capacity, room)
    ]


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


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items, each made in another thread while the one before it is at work.

    What making one raises is raised where it is waited for. Left early, it ends when the item that is being made is.
    """
    left = iter(items)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(_next, left)
        while found := coming.result():
            coming = pool.submit(_next, left)
            yield from found


def _next(left: Iterator[Item]) -> list[Item]:
    return list(islice(left, 1))
