"""Which rows a table does not hold yet, by its key."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable

from llambert_etl.lake.definitions import PARTITION_COLUMNS
from llambert_etl.lake.reading import collect
from llambert_etl.partition import Partition
from llambert_etl.schemas import Table

# What tells rows apart that leave their key open.
_TRY = ("partition", "run")


class HeldKeys:
    """The keys of one task's rows, as far as their scope reaches: of each file read once, while it stands."""

    def __init__(self, declared: Table, task: str, partition: Partition) -> None:
        self._declared, self._task, self._partition = declared, task, str(partition)
        columns = [*declared.key, *(() if declared.open is None else (*_TRY, "status"))]
        self._none = pl.DataFrame(pl.from_arrow(declared.schema.empty_table())).select(columns)
        # Put in its place at once: several threads may ask.
        self._known: tuple[set[str], pl.DataFrame] = (set(), self._none)

    def absent(self, rows: pa.Table, delta: DeltaTable, uri: str, options: Mapping[str, Any]) -> pa.Table:
        """Return the rows whose key the table at `uri` has not, in their order; of several with one key the first."""
        files, (read, held) = self._named(delta), self._known
        if not read <= files:  # upkeep has merged them, or somebody has taken rows out
            read, held = set(), self._none
        if new := files - read:
            found = pl.scan_parquet(
                [f"{uri}/{key}" for key in sorted(new)],
                storage_options=dict(options) or None,
                hive_schema=dict.fromkeys(PARTITION_COLUMNS, pl.String),
                glob=False,
            )
            held = pl.concat([held, collect(found.select(held.columns))])
        self._known = (files, held)
        return _absent_rows(self._declared, rows, held)

    def _named(self, delta: DeltaTable) -> set[str]:
        live = pl.DataFrame(delta.get_add_actions(flatten=True)).filter(pl.col("partition.task") == self._task)
        if self._declared.scope == "partition":
            live = live.filter(pl.col("partition.partition") == self._partition)
        return set(live["path"])


def _absent_rows(declared: Table, rows: pa.Table, held: pl.DataFrame) -> pa.Table:
    key = list(declared.key)
    if declared.open is None:
        return _take(rows, _missing(_numbered(rows, key), held, key))
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


def _missing(wanted: pl.DataFrame, held: pl.DataFrame, key: list[str], *, each: bool = False) -> pl.DataFrame:
    one = wanted if each else wanted.unique(key, keep="first")
    return one.join(held, on=key, how="anti", nulls_equal=True)


def _take(rows: pa.Table, chosen: pl.DataFrame) -> pa.Table:
    return rows.take(chosen["row"].sort().to_arrow())
