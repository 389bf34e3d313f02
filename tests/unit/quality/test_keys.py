"""Keys that are repeated or not shared are found as a plain look at all of them finds them."""

import random
from collections import Counter
from typing import Any

import polars as pl
import pytest

from llambert_etl.lake import collect
from llambert_etl.quality import keys
from llambert_etl.quality.keys import differences, repeated

Rows = list[tuple[str | None, str | None]]


def frame(rows: Rows) -> pl.LazyFrame:
    return pl.LazyFrame(rows, schema={"id": pl.String, "text_hash": pl.String}, orient="row")


def spoilt(dice: random.Random, rows: Rows) -> Rows:
    """Return rows of which some are gone, doubled, new or of another text, in another order."""
    some = [row for row in rows if dice.random() > 0.05]
    some += dice.sample(rows, 3) + [(f"new {number}", "t") for number in range(dice.randrange(4))]
    some = [(key, "other" if dice.random() < 0.05 else text) for key, text in some]
    return dice.sample(some, len(some))


@pytest.mark.parametrize("seed", range(8))
def test_what_two_sides_do_not_share_is_counted_as_by_hand(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(keys, "_AT_ONCE", 20)
    dice = random.Random(seed)  # noqa: S311
    accepted: Rows = [(f"id {number:03}", f"text {number % 70}") for number in range(100)]
    staged = spoilt(dice, accepted)
    here, there = {key for key, _ in staged}, {key for key, _ in accepted}
    texts = dict(accepted)
    wanted: dict[str, list[Any]] = {
        "missing": sorted(there - here),
        "extra": sorted(here - there),
        "other_text": sorted({key for key, text in staged if key in there and texts[key] != text}),
    }
    found = differences(frame(staged), frame(accepted))
    assert found == {kind: (len(ids), ids[:3]) for kind, ids in wanted.items()}


def test_texts_that_have_changed_places_are_other_texts() -> None:
    accepted: Rows = [("a", "1"), ("b", "2"), ("c", "3")]
    found = differences(frame([("a", "2"), ("b", "1"), ("c", "3")]), frame(accepted))
    assert found == {"missing": (0, []), "extra": (0, []), "other_text": (2, ["a", "b"])}


def test_sides_that_agree_are_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    read = list[str]()

    def noting(rows: pl.LazyFrame, **options: Any) -> pl.DataFrame:
        read.append(rows.explain())
        return collect(rows, **options)

    monkeypatch.setattr(keys, "collect", noting)
    rows: Rows = [(f"id {number}", f"text {number}") for number in range(100)]
    assert all(found == (0, []) for found in differences(frame(rows), frame(rows[::-1])).values())
    assert len(read) == 2
    assert not any("JOIN" in plan for plan in read)


@pytest.mark.parametrize("seed", range(4))
def test_repeated_keys_are_counted_as_by_hand(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311
    ids = [f"id {dice.randrange(60 + 200 * seed):03}" for _ in range(100)]
    again = {key: number for key, number in Counter(ids).items() if number > 1}
    rows = frame([(key, "t") for key in ids])
    assert repeated(rows, "id") == (sum(again.values()) - len(again), sorted(again)[:3])
    assert repeated(rows.head(0), "id") == repeated(rows.unique(), "id") == (0, [])
