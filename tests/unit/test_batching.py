"""Batches: bounded, of like length, each item once; and side by side without any difference to the results."""

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llambert_etl.compute.batching import by_length, side_by_side

CPU = torch.device("cpu")


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
    names = side_by_side(lambda _: threading.current_thread().name, range(3), torch.device("cuda"))
    assert set(names) == {threading.current_thread().name}
