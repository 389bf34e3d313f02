"""Which document of a drop has an id."""

import random

import polars as pl
import pytest

from llambert_etl.corpus.documents import hash_texts
from llambert_etl.sources.seen import SeenIds

TEXTS = hash_texts(pl.Series(["one", "two"]))


def test_the_first_document_with_an_id_wins() -> None:
    seen, one = SeenIds(), TEXTS.gather([0])
    assert seen.claim(pl.Series(["a", "a", "a", "b"]), TEXTS.gather([0, 0, 1, 0])).to_list() == [
        None,
        "duplicate",
        "id_conflict",
        None,
    ]
    assert seen.claim(pl.Series(["b"]), one).to_list() == ["duplicate"]
    assert seen.claim(pl.Series([], dtype=pl.String), TEXTS.clear()).to_list() == []


@pytest.mark.parametrize("bits", [1, 8, 64])
def test_ids_whose_hashes_begin_alike_are_told_apart(bits: int) -> None:
    draw, seen, first = random.Random(bits), SeenIds(bits), dict[str, int]()  # noqa: S311
    for _ in range(40):
        rows = [(str(draw.randrange(900)), draw.randrange(2)) for _ in range(draw.randrange(120))]
        expected = [
            None
            if key not in first and not first.update({key: text})
            else ["id_conflict", "duplicate"][first[key] == text]
            for key, text in rows
        ]
        ids = pl.Series([key for key, _ in rows], dtype=pl.String)
        assert seen.claim(ids, TEXTS.gather([text for _, text in rows])).to_list() == expected


def test_an_id_takes_sixteen_bytes_whatever_its_length() -> None:
    seen = SeenIds()
    for start in range(0, 100_000, 10_000):
        ids = pl.Series([f"{number}" + "x" * 200 for number in range(start, start + 10_000)])
        seen.claim(ids, TEXTS.gather([0] * 10_000))
    assert seen.nbytes == 16 * 100_000
