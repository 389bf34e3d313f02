"""The sample is what it always was: held beside a plain reading of its rule, on corpora that change by the day."""

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from llambert_etl.corpus.documents import as_of, hash_text
from llambert_etl.corpus.sampling import draw, sample, sample_of
from llambert_etl.lake import Lake
from llambert_etl.partition import Partition
from tests.given.tasks import make_task
from tests.unit.quality import frames

TASK = make_task()
DAYS = [Partition(f"2026-11-{number}") for number in range(10, 15)]
Revision = tuple[str, str, str]


def rank(text: str, seed: int | str) -> str:
    return hashlib.sha256(f"{seed}:{hash_text(text)}".encode()).hexdigest()


def plain(revisions: list[Revision], upto: Partition, n: int, seed: int | str) -> list[Revision]:
    """Return the sample of (id, day, text): of each id the last day, of each text the first id, the smallest ranks."""
    last = {key: (key, day, text) for key, day, text in sorted(revisions, key=lambda each: each[1]) if day <= upto}
    of_texts: dict[str, Revision] = {}
    for key in sorted(last):
        of_texts.setdefault(last[key][2], last[key])
    return sorted(of_texts.values(), key=lambda each: rank(each[2], seed))[:n]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path / "lake"))
    lake.create_tables()
    return lake


def ingest(lake: Lake, days: dict[Partition, list[tuple[str, str]]]) -> list[Revision]:
    model = frames.documents(TASK, 1)
    for day, rows in days.items():
        accepted = [{**model[0], "id": key, "text": text, "text_hash": hash_text(text)} for key, text in rows]
        frames.put(lake, "documents", [*accepted, model[1]], TASK, day)
    return [(key, day, text) for day, rows in days.items() for key, text in rows]


def drops(dice: random.Random) -> Iterator[list[tuple[str, str]]]:
    """Yield days on which ids come again, with the same text or another, and texts under other ids."""
    ids, texts = dice.choice([(5, 40), (40, 5), (60, 60)])
    for _ in DAYS[: dice.randint(1, len(DAYS))]:
        keys = dice.sample(range(ids), dice.randint(0, ids))
        yield [(f"id-{key}", f"text {dice.randrange(texts)}") for key in keys]


@pytest.mark.parametrize("seed", range(12))
def test_the_sample_is_that_of_the_plain_rule(lake: Lake, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311
    known = ingest(lake, dict(zip(DAYS, drops(dice), strict=False)))
    for upto in (DAYS[0], DAYS[-1]):
        for n in (1, 7, 1000):
            wanted = plain(known, upto, n, seed)
            for found in (
                sample(lake, TASK.name, upto, n, seed),
                sample_of(as_of(lake, TASK.name, upto), n, seed),
            ):
                assert found.columns == ["id", "text_hash", "partition", "text"]
                assert found.select("id", "partition", "text").rows() == wanted


def test_texts_of_older_revisions_are_passed_over_however_many_come_first(lake: Lake) -> None:
    by_rank = sorted((f"text {number}" for number in range(400)), key=lambda text: rank(text, 1))
    old, new = by_rank[:390], by_rank[390:]
    known = ingest(
        lake,
        {
            DAYS[0]: [(f"id-{number}", text) for number, text in enumerate(old)],
            DAYS[1]: [(f"id-{number}", new[number % len(new)]) for number in range(len(old))],
        },
    )
    assert sample(lake, TASK.name, DAYS[1], 3, 1).select("id", "partition", "text").rows() == plain(
        known, DAYS[1], 3, 1
    )


def test_documents_of_one_rank_are_drawn_alike_whatever_their_order() -> None:
    rows = pl.DataFrame({"id": [f"{number}" for number in range(50)]}).with_columns(
        text_hash=pl.Series([hash_text(str(number)) for number in range(50)])
    )
    wanted = sorted(range(50), key=lambda number: rank(str(number), "review"))
    for frame in (rows, rows.reverse()):
        assert draw(frame, 9, "review")["id"].to_list() == [str(number) for number in wanted[:9]]
