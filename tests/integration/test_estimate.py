"""What annotating would take, told before it is done: by a probe whose answers are kept, or by length alone."""

import pytest

from llambert_etl.errors import DataError
from tests.fakes.llm import ANSWER_TOKENS, PROMPT_TOKENS
from tests.fakes.provider import FakeProvider
from tests.given.batches import DOCUMENTS, EACH, BatchHouse


def test_a_probe_tells_what_the_others_cost_and_is_not_paid_again(batches: BatchHouse, provider: FakeProvider) -> None:
    said = batches.estimate(4, batch=False)
    assert said.rows == {"read": 12, "labelled": 4, "unparsed": 0, "failed": 0, "reused": 0, "left": 8}
    told = said.facts["forecast"]
    assert isinstance(told, dict)
    assert (told["documents"], told["tokens_in"], told["tokens_out"]) == (8, 8 * PROMPT_TOKENS, 8 * ANSWER_TOKENS)
    assert told["usd"] == pytest.approx(8 * EACH, abs=1e-4)
    assert isinstance(told["seconds"], float)
    assert told["seconds"] > 0
    assert provider.asked.total() == 4
    assert batches.annotate("r2").rows["reused"] == 4
    assert set(provider.answered.values()) == {1}


def test_a_probe_before_a_batch_file_costs_the_full_price_and_the_others_half_of_it(batches: BatchHouse) -> None:
    said = batches.estimate(4)
    assert said.cost == pytest.approx(4 * EACH)
    told = said.facts["forecast"]
    assert isinstance(told, dict)
    assert told["usd"] == pytest.approx(0.5 * 8 * EACH, abs=1e-4)
    assert told["seconds"] is None  # a provider takes up to a day for them


def test_without_a_probe_nothing_is_asked_and_nothing_written(batches: BatchHouse, provider: FakeProvider) -> None:
    version = batches.lake.version("annotations")
    told = batches.estimate(0).facts["forecast"]
    assert isinstance(told, dict)
    assert (told["documents"], told["seconds"], told["tokens_out"]) == (DOCUMENTS, None, 10 * DOCUMENTS)
    assert (provider.asked.total(), batches.lake.version("annotations")) == (0, version)


def test_a_forecast_tells_whether_the_budget_suffices(batches: BatchHouse) -> None:
    for tokens, suffices in ((100, False), (100_000, True)):
        told = batches.estimate(0, budget={"tokens": tokens}).facts["forecast"]
        assert isinstance(told, dict)
        assert told["within_budget"] is suffices


@pytest.mark.parametrize(("share", "suffices"), [(0.99, False), (1.01, True)])
def test_a_budget_suffices_where_it_pays_for_the_probe_and_for_the_batch_file(
    batches: BatchHouse, share: float, suffices: bool
) -> None:
    told = batches.estimate(4, budget={"usd": share * (4 + 0.5 * 8) * EACH}).facts["forecast"]
    assert isinstance(told, dict)
    assert told["within_budget"] is suffices


def test_a_probe_keeps_to_the_budget(batches: BatchHouse, provider: FakeProvider) -> None:
    with pytest.raises(DataError, match="estimate reviews 2026-11-10: the budget is used up: 22 of 10 tokens"):
        batches.estimate(4, budget={"tokens": 10})
    assert provider.asked.total() == 1


def test_where_all_is_answered_there_is_nothing_to_forecast(batches: BatchHouse) -> None:
    batches.annotate()
    told = batches.estimate(4).facts["forecast"]
    assert isinstance(told, dict)
    assert (told["documents"], told["tokens_in"], told["usd"]) == (0, 0, 0.0)
