"""What annotating would take, told before it is done: by a probe whose answers are kept, or by length alone."""

import pytest

from llambert_etl.errors import DataError
from llambert_etl.llm.prompts import render
from llambert_etl.manifest import Manifest
from llambert_etl.steps.estimate import estimate
from tests.batches import DOCUMENTS, BatchHouse
from tests.fake_llm import ANSWER_TOKENS, PROMPT_TOKENS
from tests.fake_provider import FakeProvider


def forecast(batches: BatchHouse, probe: int, **annotator: object) -> Manifest:
    work, annotator_ = batches.open("estimate", **annotator)
    return estimate(work, annotator_, render(work.task, batches.settings.include), probe=probe)


def test_a_probe_tells_what_the_others_cost_and_is_not_paid_again(batches: BatchHouse, provider: FakeProvider) -> None:
    said = forecast(batches, 4, batch=False)
    assert said.rows == {"read": 12, "labelled": 4, "unparsed": 0, "failed": 0, "reused": 0, "left": 8}
    told = said.facts["forecast"]
    assert isinstance(told, dict)
    assert (told["documents"], told["tokens_in"], told["tokens_out"]) == (8, 8 * PROMPT_TOKENS, 8 * ANSWER_TOKENS)
    assert told["usd"] == pytest.approx(8 * (PROMPT_TOKENS * 30 + ANSWER_TOKENS * 60) / 1e6, abs=1e-4)
    assert isinstance(told["seconds"], float)
    assert told["seconds"] > 0
    assert provider.asked.total() == 4
    assert batches.annotate("r2").rows["reused"] == 4
    assert set(provider.answered.values()) == {1}


def test_without_a_probe_nothing_is_asked_and_nothing_written(batches: BatchHouse, provider: FakeProvider) -> None:
    version = batches.lake.version("annotations")
    told = forecast(batches, 0).facts["forecast"]
    assert isinstance(told, dict)
    assert (told["documents"], told["seconds"], told["tokens_out"]) == (DOCUMENTS, None, 10 * DOCUMENTS)
    assert (provider.asked.total(), batches.lake.version("annotations")) == (0, version)


def test_a_forecast_tells_whether_the_budget_suffices(batches: BatchHouse) -> None:
    for tokens, suffices in ((100, False), (100_000, True)):
        told = forecast(batches, 0, budget={"tokens": tokens}).facts["forecast"]
        assert isinstance(told, dict)
        assert told["within_budget"] is suffices


def test_a_probe_keeps_to_the_budget(batches: BatchHouse, provider: FakeProvider) -> None:
    with pytest.raises(DataError, match="estimate reviews 2026-11-10: the budget is used up: 22 of 10 tokens"):
        forecast(batches, 4, budget={"tokens": 10})
    assert provider.asked.total() == 1


def test_where_all_is_answered_there_is_nothing_to_forecast(batches: BatchHouse) -> None:
    batches.annotate()
    told = forecast(batches, 4).facts["forecast"]
    assert isinstance(told, dict)
    assert (told["documents"], told["tokens_in"], told["usd"]) == (0, 0, 0.0)
