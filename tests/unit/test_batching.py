"""Batches: bounded, of like length, each item once and in its place, side by side or halved on a full device."""

import threading
from collections.abc import Iterator, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llambert_etl.compute.batching import Capacity, ahead, by_length, run_batches, side_by_side
from llambert_etl.errors import TransientError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 64))
def test_every_item_is_in_one_batch_of_bounded_size_beside_items_of_like_length(
    lengths: list[int], tokens: int
) -> None:
    batches = by_length(lengths, tokens)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= tokens for batch in batches)
    assert [lengths[index] for batch in batches for index in batch] == sorted(lengths, reverse=True)


def test_batches_run_beside_each_other_and_their_results_keep_their_order() -> None:
    cores, together = torch.get_num_threads(), threading.Barrier(2)
    torch.set_num_threads(2)
    try:
        found = side_by_side(lambda batch: (batch, together.wait(timeout=30), torch.get_num_threads()), range(4), CPU)
        assert [(batch, threads) for batch, _, threads in found] == [(batch, 1) for batch in range(4)]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(cores)


def test_an_error_in_one_batch_is_raised_and_the_cores_are_given_back() -> None:
    cores = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda batch: 1 // batch, range(3), CPU)
    assert torch.get_num_threads() == cores


def test_on_a_gpu_batches_follow_each_other() -> None:
    names = side_by_side(lambda _: threading.current_thread().name, range(3), CUDA)
    assert set(names) == {threading.current_thread().name}


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=30), max_size=40), st.integers(1, 64))
def test_every_item_comes_back_in_its_place(items: list[list[int]], tokens: int) -> None:
    def work(batch: Sequence[list[int]]) -> list[int]:
        return [sum(item) for item in batch]

    assert run_batches(items, work, capacity=Capacity(tokens), device=CUDA) == work(items)


class _Device:
    """A device that has room for so many items at once."""

    def __init__(self, room: int) -> None:
        self.room, self.calls = room, 0

    def work(self, batch: Sequence[list[int]]) -> list[int]:
        self.calls += 1
        if len(batch) > self.room:
            raise torch.OutOfMemoryError("no room")
        return [sum(item) for item in batch]


@pytest.mark.parametrize(("room", "calls"), [(4, 1), (2, 3), (1, 6)], ids=["all", "half", "a quarter"])
def test_a_full_device_gets_as_much_of_the_batch_as_fits(room: int, calls: int) -> None:
    device = _Device(room)
    assert run_batches([[1], [2], [3], [4]], device.work, capacity=Capacity(100), device=CUDA) == [1, 2, 3, 4]
    assert device.calls == calls


def test_a_device_that_was_full_once_is_not_filled_again() -> None:
    device, items, capacity = _Device(room=2), [[number] for number in range(8)], Capacity(4)
    assert run_batches(items, device.work, capacity=capacity, device=CUDA) == list(range(8))
    assert device.calls == 5, "a batch that did not fit, and the four halves of both"
    assert run_batches(items, device.work, capacity=capacity, device=CUDA) == list(range(8))
    assert device.calls == 5 + 4


@pytest.mark.parametrize("items", [[[1], [2], [3], [4, 5]], [[1, 2]]], ids=["four", "one"])
def test_a_device_that_has_no_room_for_one_document_is_transient_and_names_it(items: list[list[int]]) -> None:
    with pytest.raises(TransientError, match="a single document of 2 tokens"):
        run_batches(items, _Device(room=0).work, capacity=Capacity(100), device=CUDA)


def test_what_an_item_takes_room_for_beside_its_own_tokens_counts() -> None:
    device, items = _Device(room=4), [[1], [2], [3], [4]]
    found = run_batches(items, device.work, capacity=Capacity(20), room=lambda item: 9 + len(item), device=CUDA)
    assert found == [1, 2, 3, 4]
    assert device.calls == 2


def test_what_comes_next_is_made_while_the_one_before_it_is_at_work() -> None:
    made = [threading.Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    for number in ahead(items()):
        assert number == 3 or made[number + 1].wait(timeout=30)
        assert not any(event.is_set() for event in made[number + 2 :]), "and no more than that"


def test_what_making_an_item_raises_is_raised_where_the_item_is_waited_for() -> None:
    coming = ahead(1 // (2 - number) for number in range(4))
    assert [next(coming), next(coming)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(coming)


def test_whoever_stops_asking_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    coming = ahead(iter(range(10)))
    next(coming)
    coming.close()
    assert threading.active_count() == before
