"""Rows in columns, as sources read them: looked at together, and one by one only where that does not do."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import polars as pl
import pyarrow as pa

from llambert_etl.sources.records import Record, Refusal
from llambert_etl.wording import is_unicode

_ROWS = 4_096
_CHARS = 4 << 20

Row = Record | Refusal


class Columns(NamedTuple):
    """Rows in a row. In place of what may be no usable id or text stands null, and `row` tells what it is."""

    places: pl.Series
    ids: pl.Series
    texts: pl.Series
    row: Callable[[int], Row]

    def rows(self) -> Iterator[Row]:
        """Yield them one by one, as `row` has them."""
        return map(self.row, range(len(self.places)))


def strings(
    unit: str, first: int, ids: pa.Array | pa.ChunkedArray, texts: pa.Array | pa.ChunkedArray, row: Callable[[int], Row]
) -> Columns:
    """Make columns of Arrow's, whose first row is number `first`. Raise ArrowException where a string is no UTF-8."""
    for values in (ids, texts):
        values.validate(full=True)
    numbers = pl.int_range(first, first + len(ids), dtype=pl.Int64, eager=True)
    return Columns(pl.select(pl.format(f"{unit} {{}}", numbers)).to_series(), pl.Series(ids), pl.Series(texts), row)


def gathered(rows: Iterable[Row | Columns]) -> Iterator[Columns]:
    """Put rows that come one by one together, in their order."""
    held: list[Row] = []
    chars = 0
    for row in rows:
        if held and (isinstance(row, Columns) or len(held) == _ROWS or chars > _CHARS):
            yield _columns(held)
            held, chars = [], 0
        if isinstance(row, Columns):
            yield row
        else:
            held.append(row)
            chars += len(row.text) if isinstance(row, Record) and isinstance(row.text, str) else 0
    if held:
        yield _columns(held)


def _columns(rows: list[Row]) -> Columns:
    ids, texts = ([_unicode(getattr(row, name, None)) for row in rows] for name in ("id", "text"))
    places = pl.Series([row.place for row in rows], dtype=pl.String)
    return Columns(places, pl.Series(ids, dtype=pl.String), pl.Series(texts, dtype=pl.String), rows.__getitem__)


def _unicode(value: object) -> str | None:
    return value if isinstance(value, str) and is_unicode(value) else None
