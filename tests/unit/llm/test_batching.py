"""Results come back in the order of the input; a batch is halved on a full device until it fits."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llambert_etl.errors import TransientError
from llambert_etl.llm.batching import run_batches

CUDA = torch.device("cuda")


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=30), max_size=40), st.integers(1, 64))
def test_every_item_comes_back_in_its_place(items: list[list[int]], tokens: int) -> None:
    def work(batch: Sequence[list[int]]) -> list[int]:
        return [sum(item) for item in batch]

    assert run_batches(items, work, tokens=tokens, device=CUDA) == work(items)


class _Device:
    """A device that has room for so many items at once."""

    def __init__(self, room: int) -> None:
        self.room, self.calls = room, 0

    def work(self, batch: Sequence[list[int]]) -> list[int]:
        self.calls += 1
        if len(batch) > self.room:
            raise torch.OutOfMemoryError("no room")
        return [sum(item) for item in batch]


@pytest.mark.parametrize(("room", "calls"), [(4, 1), (2, 3), (1, 7)], ids=["all", "half", "a quarter"])
def test_a_full_device_gets_as_much_of_the_batch_as_fits(room: int, calls: int) -> None:
    device = _Device(room)
    assert run_batches([[1], [2], [3], [4]], device.work, tokens=100, device=CUDA) == [1, 2, 3, 4]
    assert device.calls == calls


@pytest.mark.parametrize("items", [[[1], [2], [3], [4, 5]], [[1, 2]]], ids=["four", "one"])
def test_a_device_that_has_no_room_for_one_document_is_transient_and_names_it(items: list[list[int]]) -> None:
    with pytest.raises(TransientError, match="a single document of 2 tokens"):
        run_batches(items, _Device(room=0).work, tokens=100, device=CUDA)


def test_what_an_item_takes_room_for_beside_its_own_tokens_counts() -> None:
    device = _Device(room=4)
    assert run_batches([[1], [2], [3], [4]], device.work, tokens=20, beside=9, device=CUDA) == [1, 2, 3, 4]
    assert device.calls == 2
