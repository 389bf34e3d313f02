"""Metrics and calibration against numbers worked out by hand."""

import numpy as np
import pytest
from scipy.special import softmax

from llambert_etl.encoder.calibration import expected_calibration_error, fit_temperature
from llambert_etl.encoder.metrics import evaluate


def test_two_classes_are_scored_as_by_hand() -> None:
    truth = np.array([0, 0, 1, 1])
    found = evaluate(("yes", "no"), truth, np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]]))
    assert (found.n, found.accuracy, found.confusion) == (4, 0.75, ((1, 1), (0, 2)))
    assert found.per_class["yes"].precision == 1.0
    assert found.per_class["yes"].recall == 0.5
    assert found.macro_f1 == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert found.predicted_shares == {"yes": 0.25, "no": 0.75}


def test_a_class_that_is_never_predicted_counts_as_zero() -> None:
    found = evaluate(
        ("a", "b", "c"), np.array([0, 1, 2]), np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.5, 0.3, 0.2]])
    )
    assert found.confusion == ((1, 0, 0), (0, 1, 0), (1, 0, 0))
    assert found.per_class["c"].f1 == 0.0
    assert found.macro_f1 == pytest.approx((2 / 3 + 1.0 + 0.0) / 3)
    assert found.flat()["predicted_share.c"] == 0.0


def test_the_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    probabilities = np.array([[0.8, 0.2]] * 10)
    assert expected_calibration_error(probabilities, np.zeros(10, dtype=np.int64)) == pytest.approx(0.2)
    assert expected_calibration_error(probabilities, np.array([0] * 8 + [1] * 2)) == pytest.approx(0.0)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_fitted_temperature_mends_confidence_and_changes_no_label(classes: int) -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(2000, classes))
    truth = np.array([rng.choice(classes, p=row) for row in softmax(honest, axis=1)])
    boastful = honest * 4.0
    temperature = fit_temperature(boastful, truth)
    assert temperature == pytest.approx(4.0, rel=0.15)
    mended = softmax(boastful / temperature, axis=1)
    assert expected_calibration_error(mended, truth) < expected_calibration_error(softmax(boastful, axis=1), truth) / 3
    assert (mended.argmax(axis=1) == boastful.argmax(axis=1)).all()


def test_rows_without_an_error_make_nobody_surer_than_so_many_rows_can() -> None:
    truth = np.array([0, 1] * 50)
    logits = np.eye(2)[truth] * 2.0
    confidence = softmax(logits / fit_temperature(logits, truth), axis=1).max(axis=1)
    assert confidence == pytest.approx(np.full(100, 101 / 102), abs=0.002)


def test_without_held_out_rows_nothing_is_scaled() -> None:
    assert fit_temperature(np.empty((0, 2)), np.empty(0, dtype=np.int64)) == 1.0
