"""How many labels are enough: what the curve says of points whose answer is known."""

import pytest

from llambert_etl.studies.curve import advise, fit

# RoBERTa-large on IMDb (arXiv:2403.15938): labels -> accuracy in percent, and the error of its mean.
GOLD = {
    100: (90.236, 2.251),
    200: (94.072, 0.514),
    400: (94.378, 0.517),
    800: (94.764, 0.288),
    1600: (95.212, 0.349),
    3200: (95.488, 0.057),
    6400: (95.864, 0.098),
    12800: (96.172, 0.050),
    25000: (96.576, 0.191),
}
LLM = {
    100: (92.676, 1.025),
    200: (94.032, 0.279),
    400: (94.082, 0.367),
    800: (94.332, 0.447),
    1600: (94.440, 0.306),
    3200: (94.738, 0.102),
    6400: (94.802, 0.069),
    12800: (94.846, 0.069),
    25000: (94.774, 0.040),
}


def seeds(published: dict[int, tuple[float, float]], upto: int) -> dict[int, list[float]]:
    """Return three accuracies of each size that have its published mean and error."""
    return {
        rows: [(mean + side * error) / 100 for side in (-1, 0, 1)]
        for rows, (mean, error) in published.items()
        if rows <= upto
    }


def test_a_curve_is_found_again_from_its_points() -> None:
    measured = {rows: [1 - 0.05 - 0.8 * rows**-0.5] for rows in (100, 200, 400, 800, 1600)}
    found = fit(measured)
    assert (found.floor, found.slope) == pytest.approx((0.05, 0.5), abs=0.01)
    assert found.accuracy(3200) == pytest.approx(1 - 0.05 - 0.8 * 3200**-0.5, abs=0.001)


def test_the_papers_llm_labels_are_enough_at_3200_and_its_gold_ones_never_are() -> None:
    llm, gold = advise(seeds(LLM, 25_000), worth=0.002), advise(seeds(GOLD, 25_000), worth=0.002)
    assert llm is not None
    assert llm.enough is not None
    assert llm.enough <= 3200
    assert gold is not None
    assert (gold.enough, gold.high) == (None, None)


def test_nobody_is_told_to_stop_while_the_last_doubling_still_gained_more_than_it_was_worth() -> None:
    advice = advise(seeds(GOLD, 3_200), worth=0.002)
    assert advice is not None
    assert advice.enough is None
    assert advice.gained == pytest.approx(0.00276)


def test_a_flat_curve_needs_no_more_than_the_smallest_size() -> None:
    advice = advise({100: [0.9, 0.91], 200: [0.905, 0.9], 400: [0.9, 0.905]}, worth=0.01)
    assert advice is not None
    assert advice.enough == 100


@pytest.mark.parametrize("sizes", [(100, 200), (100, 110, 120)], ids=["two", "close together"])
def test_too_few_sizes_make_no_curve(sizes: tuple[int, ...]) -> None:
    assert advise({rows: [0.8] for rows in sizes}, worth=0.002) is None


def test_two_sizes_close_together_are_no_doubling() -> None:
    flat = {100: [0.9, 0.904], 200: [0.902, 0.9], 400: [0.9, 0.903], 403: [0.905, 0.903]}
    advice = advise(flat, worth=0.005)
    assert advice is not None
    assert (advice.enough, advice.gained) == (100, pytest.approx(0.003, abs=1e-4))
