"""Keys of millions of rows: which are repeated, and which two tables do not share. Exact, and memory does not follow.

Sound rows are told by hashes; only where those differ are the keys themselves looked at, a part of them at a time.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import polars as pl

from llambert_etl.lake import collect, count, stream

_EXAMPLES = 3
_CHUNK_ROWS = 1 << 17
# Keys that are held side by side where something is wrong.
_AT_ONCE = 1_000_000
_PAIR: Final = ["id", "text_hash"]

Found = tuple[int, list[str]]


def repeated(frame: pl.LazyFrame, key: str) -> Found:
    """Return how many rows repeat a key that another has, and the first few of those keys."""
    hashed = pl.col(key).hash()
    hashes, at = np.empty(count(frame), dtype=np.uint64), 0
    for chunk in stream(frame.select(hashed.alias("hash")), len(hashes), _CHUNK_ROWS):
        hashes[at : at + chunk.height] = chunk["hash"].to_numpy()
        at += chunk.height
    hashes.sort()
    again = pl.Series(hashes[1:][hashes[1:] == hashes[:-1]]).unique()
    if again.is_empty():
        return 0, []
    suspects = frame.filter(hashed.is_in(again.implode()))
    found = collect(suspects.group_by(key).len().filter(pl.col("len") > 1), engine="streaming")
    return int((found["len"] - 1).sum()), found[key].sort().head(_EXAMPLES).to_list()


def differences(staged: pl.LazyFrame, accepted: pl.LazyFrame) -> dict[str, Found]:
    """Return the ids that are `missing` in what is staged, that are `extra` there, and those with an `other_text`."""
    kinds = ("missing", "extra", "other_text")
    sums = [_sums(rows) for rows in (staged, accepted)]
    if sums[0] == sums[1]:
        return dict.fromkeys(kinds, (0, []))
    parts = 1 + max(rows for rows, *_ in sums) // _AT_ONCE
    found: dict[str, Found] = dict.fromkeys(kinds, (0, []))
    for part in range(parts):
        mine = pl.col("id").hash() % parts == part
        for kind, ids in _differences(staged.filter(mine), accepted.filter(mine)):
            number, examples = found[kind]
            found[kind] = number + ids.len(), sorted([*examples, *ids.sort().head(_EXAMPLES)])[:_EXAMPLES]
    return found


def _sums(rows: pl.LazyFrame) -> tuple[int, ...]:
    """Return what two tables have in common where their rows have the same ids and texts, in whatever order."""
    hashes = [(pl.col("id").hash(seed) ^ pl.col("text_hash").hash(seed + 1)).hash(seed) for seed in (1, 3)]
    # Halves, whose sums stay below 64 bits.
    halves = [half for each in hashes for half in (each // 2**32, each % 2**32)]
    return collect(
        rows.select(pl.len(), *(half.sum().alias(f"{n}") for n, half in enumerate(halves))), engine="streaming"
    ).row(0)


def _differences(staged: pl.LazyFrame, accepted: pl.LazyFrame) -> Iterator[tuple[str, pl.Series]]:
    staged, accepted = staged.select(_PAIR), accepted.select(_PAIR)
    other = pl.col("text_hash").ne_missing(pl.col("text_hash_right"))
    frames = {
        "missing": accepted.join(staged, on="id", how="anti"),
        "extra": staged.join(accepted, on="id", how="anti"),
        "other_text": staged.join(accepted, on="id").filter(other),
    }
    for kind, rows in frames.items():
        yield kind, collect(rows.select(pl.col("id").unique()), engine="streaming")["id"]
