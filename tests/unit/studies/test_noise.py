"""Labels made wrong on purpose: how many, which, and always the same for one seed."""

from collections import Counter

import polars as pl
import pytest

from llambert_etl.errors import DataError
from llambert_etl.studies.noise import annotator_errors, flip, uniform_errors

NAMES = ("positive", "negative", "mixed")
LABELS = ["positive"] * 60 + ["negative"] * 30 + ["mixed"] * 10


def moves(before: list[str], after: list[str]) -> Counter[tuple[str, str]]:
    return Counter((right, wrong) for right, wrong in zip(before, after, strict=True) if right != wrong)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.33, 0.5, 1.0])
def test_exactly_the_share_that_was_asked_for_is_flipped(share: float) -> None:
    flipped = flip(LABELS, share, uniform_errors(LABELS, NAMES), seed=1)
    assert moves(LABELS, flipped).total() == round(share * len(LABELS))


def test_a_label_that_no_row_has_is_flipped_in_no_row() -> None:
    assert flip([], 0.4, uniform_errors([], NAMES), seed=1) == []
    assert moves(LABELS[:60], flip(LABELS[:60], 0.1, uniform_errors(LABELS[:60], NAMES), seed=1)).total() == 6
    assert flip(LABELS[:60], 0.0, {("mixed", "positive"): 1.0}, seed=1) == LABELS[:60]


def test_uniform_flips_hit_every_label_as_often_as_it_stands_there() -> None:
    found = moves(LABELS, flip(LABELS, 0.4, uniform_errors(LABELS, NAMES), seed=1))
    assert Counter({right: sum(n for (own, _), n in found.items() if own == right) for right in NAMES}) == {
        "positive": 24,
        "negative": 12,
        "mixed": 4,
    }


def test_the_annotators_flips_go_the_way_its_errors_go() -> None:
    judged = pl.DataFrame(
        {"label": ["negative"] * 6 + ["positive"] * 12, "said": ["positive"] * 6 + ["negative"] * 2 + ["positive"] * 10}
    )
    found = moves(LABELS, flip(LABELS, 0.2, annotator_errors(judged), seed=1))
    assert found == {("negative", "positive"): 15, ("positive", "negative"): 5}


def test_the_same_seed_flips_the_same_rows_and_another_one_others() -> None:
    first, again, other = (flip(LABELS, 0.3, uniform_errors(LABELS, NAMES), seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_an_annotator_that_never_errs_has_no_pattern_to_copy() -> None:
    with pytest.raises(DataError, match="right on all of the 3 gold documents"):
        annotator_errors(pl.DataFrame({"label": ["a"] * 3, "said": ["a"] * 3}))


def test_more_errors_of_a_label_than_it_has_rows_are_refused() -> None:
    with pytest.raises(DataError, match=r"more 'mixed' rows than the 10"):
        flip(LABELS, 0.5, {("mixed", "positive"): 1.0}, seed=1)
