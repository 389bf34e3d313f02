"""Intervals of a study: over seeds where there are some, over the tested rows where there is one."""

import pytest

from llambert_etl.studies.summary import Scored, differences, interval, summarise


def outcome(series: str, seed: int, accuracy: float, x: float | None = None) -> Scored:
    return Scored(series, x, seed, accuracy, accuracy, 100, {})


def test_seeds_of_one_point_become_one_line_with_students_interval() -> None:
    (line,) = summarise([outcome("gold", seed, accuracy) for seed, accuracy in enumerate((0.80, 0.82, 0.84))])
    assert (line.seeds, line.accuracy) == (3, pytest.approx(0.82))
    # t(0.975, 2) = 4.303; the standard error of 0.80, 0.82, 0.84 is 0.01155.
    assert (line.low, line.high) == pytest.approx((0.7703, 0.8697), abs=1e-4)


def test_one_seed_alone_gets_wilsons_interval_over_the_tested_rows() -> None:
    assert interval([0.9], 100) == pytest.approx((0.8256, 0.9448), abs=1e-4)


def test_points_at_other_places_stay_apart_and_keep_their_order() -> None:
    found = summarise([outcome("a", 1, 0.5, 200.0), outcome("a", 1, 0.6, 100.0), outcome("b", 1, 0.7, 100.0)])
    assert [(line.series, line.x) for line in found] == [("a", 200.0), ("a", 100.0), ("b", 100.0)]


def test_strategies_are_compared_seed_by_seed() -> None:
    gold, llm = {1: 0.70, 2: 0.80}, {2: 0.83, 1: 0.73}
    outcomes = [
        outcome(name, seed, value) for name, own in (("gold", gold), ("llm", llm)) for seed, value in own.items()
    ]
    ((name, mean, half),) = differences(outcomes)
    assert (name, mean) == ("llm - gold", pytest.approx(0.03))
    assert half == pytest.approx(0.0, abs=1e-9)
