"""Whether an encoder may label: which label is at fault, how many rows say so, and which gate asked."""

import polars as pl
import pytest

from llambert_etl.champion.scores import Score
from llambert_etl.champion.verdict import judge, to_label
from llambert_etl.config import LabellingTask
from tests.given.tasks import make_task, three_label_task

RARE = pl.DataFrame({"label": ["positive"] * 16 + ["negative"] * 784})


def score(rare: float, share: float, macro: float = 0.9) -> Score:
    return Score(macro, 0.98, {"positive": rare, "negative": 0.99}, {"positive": share, "negative": 1 - share})


def refusal(task: LabellingTask, score: Score, gold: pl.DataFrame) -> list[str]:
    return [outcome.sentence() for outcome in to_label(task, score, gold) if outcome.stops]


def gates(**given: object) -> dict[str, object]:
    return {"min_label_share": None, "min_gold_f1": 0.6, **given}


def test_an_encoder_without_a_fault_is_not_taken_for_collapsed_where_gold_itself_is_rare() -> None:
    assert refusal(make_task(gates=gates()), score(1.0, 0.02, 1.0), RARE) == []


def test_a_floor_that_gold_itself_does_not_reach_is_named_as_what_to_lower() -> None:
    said = refusal(make_task(gates=gates(min_label_share=0.05)), score(1.0, 0.02, 1.0), RARE)
    assert said == [
        "share of gold given 'positive': observed 0.0200, expected >= 0.05 "
        "(gates.min_label_share, of which gold itself has 0.0200: lower it)"
    ]


def test_a_low_macro_f1_is_told_with_the_label_that_lowers_it() -> None:
    said = refusal(make_task(gates=gates()), score(0.0, 0.0, 0.495), RARE)
    assert said[0] == (
        "gold macro F1: observed 0.4950 ('positive': 0.0000 on 16 of 800 rows, which it never gives), "
        "expected >= 0.6 (gates.min_gold_f1)"
    )


@pytest.mark.parametrize("floor", [0.5, {"positive": 0.5}])
def test_a_label_below_its_own_floor_is_refused_whatever_the_mean_is(floor: float | dict[str, float]) -> None:
    task = make_task(gates=gates(min_label_f1=floor))
    assert refusal(task, score(0.5, 0.02), RARE) == []
    assert refusal(task, score(0.49, 0.02), RARE) == [
        "gold F1 of 'positive': observed 0.4900 on 16 of 800 rows, expected >= 0.5 (gates.min_label_f1)"
    ]


@pytest.mark.parametrize("share", [None, 0.0, {"positive": 0.0, "negative": 0.0}])
def test_one_label_for_all_is_a_collapse_whatever_the_gates(share: object) -> None:
    task = make_task(gates=gates(min_label_share=share, min_gold_f1=0.0))
    said = refusal(task, score(0.0, 0.0), RARE)
    assert said[-1] == "labels in use: observed 1, expected >= 2"


def test_the_label_that_misses_its_floor_by_most_is_named_first_among_three() -> None:
    task = three_label_task(gates=gates(min_gold_f1=0.0))
    gold = pl.DataFrame({"label": ["sports"] * 50 + ["business"] * 45 + ["science"] * 5})
    shares = {"sports": 0.96, "business": 0.03, "science": 0.02}
    said = refusal(task, Score(0.5, 0.5, dict.fromkeys(task.labels, 0.5), shares), gold)
    assert said == [
        "share of gold given 'business': observed 0.0300, expected >= 0.05 (gates.min_label_share)",
        "share of gold given 'science': observed 0.0200, expected >= 0.025 (gates.min_label_share)",
    ]


def test_of_many_failures_the_first_are_told_and_the_others_counted() -> None:
    labels = {f"topic {letter}": "One of many." for letter in "abcdefgh"}
    examples = [{"text": "About a.", "label": "topic a"}]
    task = make_task(labels=labels, prompt={"examples": examples}, gates=gates(min_label_f1=0.5, min_label_share=0.0))
    gold = pl.DataFrame({"label": list(labels)})
    low = Score(0.1, 0.1, dict.fromkeys(labels, 0.1), dict.fromkeys(labels, 0.125))
    said = judge(task, gold, None, low, None, None, None)  # type: ignore[arg-type]
    assert (said.decision, said.reason.count("observed")) == ("refused", 5)
    assert said.reason.startswith("gold macro F1: observed 0.1000")
    assert said.reason.endswith("; and 4 more")
