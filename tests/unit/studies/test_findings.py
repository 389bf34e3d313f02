"""What a study says beyond its figures."""

import polars as pl
import pytest

from llambert_etl.studies.findings import of_mislabelling
from llambert_etl.studies.summary import Line

TEST = pl.DataFrame({"label": ["positive"] * 6 + ["negative"] * 4})


@pytest.mark.parametrize(
    ("accuracies", "bears"),
    [
        ({0.0: 0.95, 0.1: 0.945, 0.2: 0.94, 0.3: 0.90}, "20%"),
        ({0.0: 0.95, 0.1: 0.90, 0.2: 0.945}, "0%"),
        ({0.2: 0.95, 0.1: 0.95, 0.0: 0.95}, "20%"),
    ],
    ids=["until it costs a point", "not beyond a share that costs more", "all"],
)
def test_wrong_labels_are_borne_until_a_share_of_them_costs_more_than_a_point(
    accuracies: dict[float, float], bears: str
) -> None:
    lines = [Line("uniform", share, 1, accuracy, 0.8, 1.0, 0.9, {}) for share, accuracy in accuracies.items()]
    assert of_mislabelling(lines, pl.DataFrame(), TEST)["uniform"].startswith(f"bears {bears} wrong labels")


def test_nothing_is_borne_by_what_has_learnt_nothing() -> None:
    lines = [Line("uniform", share, 1, 0.6, 0.5, 0.7, 0.4, {}) for share in (0.0, 0.4)]
    assert of_mislabelling(lines, pl.DataFrame(), TEST)["uniform"].startswith("has learnt nothing")
