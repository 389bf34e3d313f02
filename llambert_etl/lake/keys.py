"""Which rows a table does not hold yet, by its key."""

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from llambert_etl.lake.reading import collect
from llambert_etl.partition import Partition
from llambert_etl.schemas import Table

# What tells rows apart that leave their key open.
_TRY = ("partition", "run")


def absent_rows(declared: Table, rows: pa.Table, held: pl.LazyFrame, partition: Partition) -> pa.Table:
    """Return the rows whose key the task's rows `held` have not, in their order; of several with one key the first."""
    key = list(declared.key)
    if declared.scope == "partition":
        held = held.filter(pl.col("partition") == str(partition))
    if declared.open is None:
        wanted = _numbered(rows, key)
        return _take(rows, _missing(wanted, held, key))
    tries = [*key, *_TRY]
    is_open = pl.col("status") == declared.open
    wanted = _numbered(rows, [*tries, "status"])
    closing = _missing(wanted.filter(~is_open), held.filter(~is_open), key)
    # What is answered here is answered in the table too, or will be by the same commit.
    still_open = wanted.filter(is_open).join(wanted.filter(~is_open), on=key, how="anti", nulls_equal=True)
    still_open = _missing(still_open, held.filter(~is_open), key, each=True)
    return _take(rows, pl.concat([closing, _missing(still_open, held.filter(is_open), tries)]))


def _numbered(rows: pa.Table, columns: Sequence[str]) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(rows.select(columns))).with_row_index("row")


def _missing(wanted: pl.DataFrame, held: pl.LazyFrame, key: list[str], *, each: bool = False) -> pl.DataFrame:
    one = wanted if each else wanted.unique(key, keep="first")
    return one.join(collect(held.select(key)), on=key, how="anti", nulls_equal=True)


def _take(rows: pa.Table, chosen: pl.DataFrame) -> pa.Table:
    return rows.take(chosen["row"].sort().to_arrow())
