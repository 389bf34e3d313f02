"""Metrics and calibration against numbers worked out by hand."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import softmax

from llambert_etl.encoder.calibration import (
    Classes,
    calibrate,
    equal_mass_error,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    without_temperature,
)
from llambert_etl.encoder.metrics import evaluate, honesty


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


def drawn(rows: int, boast: float, classes: int = 2, seed: int = 0) -> tuple[npt.NDArray[np.float64], Classes]:
    """Return logits that are `boast` times what is true, and labels."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(rows, classes)) * 2.0
    return honest * boast, np.array([rng.choice(classes, p=row) for row in softmax(honest, axis=1)])


@pytest.mark.parametrize("classes", [2, 3])
def test_a_temperature_that_helps_rows_it_was_not_fitted_on_is_taken_with_what_it_was_before(classes: int) -> None:
    found = calibrate(*drawn(500, 3.0, classes))
    assert found.temperature == found.fitted == pytest.approx(3.0, rel=0.2)
    assert found.log_loss_with is not None
    assert found.log_loss_without is not None
    assert found.log_loss_with < found.log_loss_without - 0.05
    assert set(found.flat()) == {"rows", "temperature", "fitted", "log_loss_with", "log_loss_without"}


def test_a_temperature_that_helps_only_the_rows_it_was_fitted_on_is_told_and_not_taken() -> None:
    logits, labels = drawn(99, 1.0)
    found = calibrate(logits, labels)
    assert found.fitted is not None
    assert log_loss(logits / found.fitted, labels) < log_loss(logits, labels)
    assert (found.temperature, found.fitted == 1.0) == (1.0, False)


def test_folds_do_not_depend_on_the_order_in_which_labels_come() -> None:
    logits, labels = drawn(400, 3.0)
    order = np.argsort(labels, kind="stable")
    assert calibrate(logits[order], labels[order]).temperature == pytest.approx(calibrate(logits, labels).temperature)


@pytest.mark.parametrize("rows", [0, 1, 39])
def test_few_held_out_rows_scale_nothing(rows: int) -> None:
    logits, labels = drawn(rows, 5.0)
    assert calibrate(logits, labels).flat() == {"rows": rows, "temperature": 1.0}


def test_bins_of_like_many_rows_show_what_bins_of_equal_width_hide() -> None:
    # All lie above 0.9: those that are too sure and those that are not sure enough share one bin of equal width.
    confidence = np.array([0.92] * 100 + [0.99] * 100)
    right = np.array([True] * 82 + [False] * 18 + [True] * 100)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    found = honesty(np.where(right, 0, 1), probabilities)
    assert found.ece == pytest.approx(abs(confidence.mean() - right.mean()))
    assert found.ece_mass == pytest.approx((0.10 + 0.01) / 2)
    assert found.ece_mass > 2 * found.ece_mass_by_chance > 0.01
    assert found.log_loss == pytest.approx(-np.log(np.where(right, confidence, 1 - confidence)).mean())
    assert found.brier == pytest.approx(2 * ((right - confidence) ** 2).mean())


def test_an_honest_encoder_has_the_error_that_chance_makes_of_so_many_rows() -> None:
    logits, labels = drawn(1_000, 1.0)
    found = honesty(labels, softmax(logits, axis=1))
    assert found.ece_mass == pytest.approx(found.ece_mass_by_chance, rel=0.5)


def test_rows_of_one_confidence_share_a_bin_whatever_their_order() -> None:
    probabilities = np.array([[0.8, 0.2]] * 20)
    assert equal_mass_error(probabilities, np.array([0] * 16 + [1] * 4))[0] == pytest.approx(0.0)


def test_a_probability_that_is_rounded_to_zero_is_no_infinite_loss() -> None:
    assert 50 < honesty(np.array([1]), np.array([[1.0, 0.0]])).log_loss < 100


def test_what_an_encoder_was_before_its_temperature_is_known() -> None:
    logits, _ = drawn(50, 3.0, classes=3)
    before = without_temperature(softmax(logits / 2.5, axis=1), 2.5)
    assert before == pytest.approx(softmax(logits, axis=1))
