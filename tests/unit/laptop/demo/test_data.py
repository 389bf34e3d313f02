"""The demo's drops and gold."""

import gzip
from collections import Counter
from pathlib import Path

import polars as pl

from laptop.demo.data import DAYS, Review, daily_drops, drop_files, write_gold
from llambert_etl.lake import Lake
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.steps.ingest import ingest
from tests.given.tasks import make_task

REVIEWS = [Review(f"rt-{n}", f"Review number {n}.", "positive" if n % 2 else "negative") for n in range(2_000)]


def test_every_review_falls_on_one_day() -> None:
    drops = daily_drops(REVIEWS)
    assert list(drops) == list(DAYS)
    assert [review for drop in drops.values() for review in drop] == REVIEWS


def test_poison_costs_the_third_day_no_review_and_every_bad_line_is_refused_with_a_reason(tmp_path: Path) -> None:
    landing, day = tmp_path / "landing", DAYS[-1]
    task = make_task(source={"uri": f"{landing}/{{partition}}/*.jsonl.gz", "id": "id", "text": "text"})
    reviews = daily_drops(REVIEWS)[day]
    (landing / day).mkdir(parents=True)
    landed = 0
    for name, lines in drop_files(task, day, reviews).items():
        (landing / day / name).write_bytes(gzip.compress(b"\n".join(lines)))
        landed += len(lines)
    lake = Lake(str(tmp_path / "lake"))
    lake.create_tables()
    manifest = ingest(
        Run(task, day, "test"), lake=lake, settings=Settings(lake=str(tmp_path / "lake"), sources=[str(landing)])
    )
    assert manifest.rows == {"read": landed, "accepted": len(reviews), "rejected": landed - len(reviews)}
    assert Counter(manifest.reasons) == {
        "file_wrong_kind": 1,
        "line_not_utf8": 1,
        "line_not_json": 1,
        "line_not_object": 1,
        "line_too_deep": 1,
        "text_missing": 1,
        "text_not_text": 2,
        "text_blank": 1,
        "text_nul": 1,
        "text_not_unicode": 1,
        "text_too_long": 1,
        "id_missing": 1,
        "id_blank": 1,
        "duplicate": 1,
        "id_conflict": 1,
    }


def test_gold_is_the_same_whatever_the_order_of_the_reviews(tmp_path: Path) -> None:
    write_gold(REVIEWS, tmp_path / "one.parquet")
    write_gold(reversed(REVIEWS), tmp_path / "two.parquet")
    one = pl.read_parquet(tmp_path / "one.parquet")
    assert one.equals(pl.read_parquet(tmp_path / "two.parquet"))
    assert dict(one.group_by("split").len().iter_rows()) == {"train": 500, "test": 1_000}
    assert one["text"].n_unique() == 1_500
