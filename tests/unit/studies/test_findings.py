"""What a study says beyond its figures."""

import polars as pl
import pytest

from llambert_etl.studies.findings import of_mislabelling, of_size
from llambert_etl.studies.plan import StudyPlan
from llambert_etl.studies.summary import Line, Scored

TEST = pl.DataFrame({"label": ["positive"] * 6 + ["negative"] * 4})


@pytest.mark.parametrize(
    ("accuracies", "bears"),
    [
        ({0.0: 0.95, 0.1: 0.945, 0.2: 0.94, 0.3: 0.90}, "20%"),
        ({0.0: 0.95, 0.1: 0.90, 0.2: 0.945}, "0%"),
        ({0.0: 0.95, 0.485: 0.945, 0.488: 0.6}, "48.5%"),
        ({0.2: 0.95, 0.1: 0.95, 0.0: 0.95}, "20%"),
    ],
    ids=["until it costs a point", "not beyond a share that costs more", "in tenths", "all"],
)
def test_wrong_labels_are_borne_until_a_share_of_them_costs_more_than_a_point(
    accuracies: dict[float, float], bears: str
) -> None:
    lines = [Line("uniform", share, 1, accuracy, 0.8, 1.0, 0.9, 10, {}) for share, accuracy in accuracies.items()]
    assert of_mislabelling(lines, pl.DataFrame(), TEST)["uniform"].startswith(f"bears {bears} wrong labels")


def test_nothing_is_borne_by_what_has_learnt_nothing() -> None:
    lines = [Line("uniform", share, 1, 0.6, 0.5, 0.7, 0.4, 10, {}) for share in (0.0, 0.4)]
    assert of_mislabelling(lines, pl.DataFrame(), TEST)["uniform"].startswith("has learnt nothing")


@pytest.mark.parametrize(
    ("accuracy", "seeds", "said"),
    [
        (0.9, (1,), "100 labels are enough (by one seed): then"),
        (0.9, (1, 2), "100 labels are enough (100 to 100): then"),
        (0.6, (1, 2), "nothing learnt at any size: no better than the commonest label for every text, 60.0%"),
    ],
)
def test_a_flat_curve_says_how_much_stands_behind_it(accuracy: float, seeds: tuple[int, ...], said: str) -> None:
    flat = [Scored("llm", rows, seed, accuracy, 0.5, 10, {}) for rows in (100.0, 200.0, 400.0) for seed in seeds]
    assert of_size(flat, StudyPlan(), TEST)["llm"].startswith(said)
