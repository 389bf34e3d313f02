"""How each table's rows lie in its Parquet files: their order, the size of row groups, and how columns are encoded.

All of it is standard Parquet, and types are those that are declared: a reader sees smaller files, and can skip more.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from deltalake import ColumnProperties, WriterProperties

from llambert_etl.lake.definitions import PARTITION_COLUMNS
from llambert_etl.schemas import TABLES, TableName

# No BYTE_STREAM_SPLIT, which would save a byte of a label: Spark's own reader has refused it up to 4.1.
Encoding = Literal["PLAIN", "DELTA_BYTE_ARRAY"]

# The least that pays: a hash is as good as random, and what higher levels find in it costs more than it saves.
_CODEC, _LEVEL = "zstd", 1
# Rows sorted together: a text hash shares its beginning with its neighbours, and a range of them lies in few groups.
_RUN_BYTES = 128 * 1024 * 1024
# A group is read at once, and of long texts few fill the memory.
_GROUP_BYTES = 32 * 1024 * 1024
# Long text has no useful minimum, and its statistics would weigh down every reader of the log.
_UNINDEXED = {"text", "reply", "evidence", "reason", "probabilities", "moved_at", "labelled_at"}


@dataclass(frozen=True)
class Layout:
    """`order` is the column of hashes that rows are sorted by; `encodings` are those of values that hardly repeat."""

    group_rows: int = 131_072
    order: str | None = None
    encodings: dict[str, Encoding] = field(default_factory=dict)


_DEFAULT = Layout()
LAYOUTS: dict[TableName, Layout] = {
    # Small groups: a shard of a label run reads those of its range of hashes, and a text that comes again only its own.
    "documents": Layout(
        8_192,
        "text_hash",
        {
            "id": "DELTA_BYTE_ARRAY",
            "place": "DELTA_BYTE_ARRAY",
            "text": "PLAIN",
            "text_hash": "DELTA_BYTE_ARRAY",
        },
    ),
    "labels": Layout(
        8_192,
        "text_hash",
        {
            "id": "DELTA_BYTE_ARRAY",
            "text_hash": "DELTA_BYTE_ARRAY",
            "confidence": "PLAIN",
            "probabilities.list.element.probability": "PLAIN",
        },
    ),
}


def layout_of(table: TableName) -> Layout:
    return LAYOUTS.get(table, _DEFAULT)


def file_schema(table: TableName) -> pa.Schema:
    """Return the columns that a file of the table has: those it is partitioned by are in its folder's name."""
    return pa.schema([field for field in TABLES[table].schema if field.name not in PARTITION_COLUMNS])


def writer_options(table: TableName) -> dict[str, Any]:
    """Return what pyarrow's writer is told."""
    schema, encodings = file_schema(table), dict(layout_of(table).encodings)
    return {
        "compression": _CODEC,
        "compression_level": _LEVEL,
        "use_dictionary": [name for name in _leaves(schema) if name not in encodings],
        "column_encoding": encodings or None,
        "write_statistics": [name for name in schema.names if name not in _UNINDEXED],
    }


def writer_properties(table: TableName) -> WriterProperties:
    """Return what deltalake's writer is told, which merges files: the same."""
    schema, encodings = file_schema(table), layout_of(table).encodings
    columns = {
        name: ColumnProperties(
            dictionary_enabled=name not in encodings,
            encoding=encodings.get(name),
            statistics_enabled="NONE" if name in _UNINDEXED else "CHUNK",
        )
        for name in schema.names
    }
    return WriterProperties(
        compression="ZSTD",
        compression_level=_LEVEL,
        max_row_group_size=layout_of(table).group_rows,
        # It finds no column within another by its name: what holds for all must do for those.
        default_column_properties=ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE"),
        column_properties=columns,
    )


def runs(table: TableName, chunks: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield row groups, sorted within runs of a bounded size; memory is two runs."""
    held: list[pa.Table] = []
    size = 0
    for chunk in chunks:
        held.append(chunk)
        size += chunk.nbytes
        if size >= _RUN_BYTES:
            yield from _groups(table, pa.concat_tables(held))
            held, size = [], 0
    if held:
        yield from _groups(table, pa.concat_tables(held))


def _groups(table: TableName, rows: pa.Table) -> Iterator[pa.Table]:
    # By way of polars, where an order of strings is one of pointers, and none is copied before its group is made.
    layout, schema, frame = layout_of(table), file_schema(table), pl.DataFrame(rows)
    if layout.order is not None:
        frame = frame[_by_hash(frame[layout.order])]
    upto, start = np.cumsum(_text_bytes(frame)), 0
    while start < len(upto):
        heavy = int(np.searchsorted(upto, upto[start] + _GROUP_BYTES))
        end = min(start + layout.group_rows, max(heavy, start + 1), len(upto))
        yield frame.slice(start, end - start).to_arrow(compat_level=pl.CompatLevel.newest()).cast(schema)
        start = end


def _by_hash(hashes: pl.Series) -> pl.Series:
    """Return the order of hashes in hexadecimal, by their first 64 bits: as strings, that takes ten times as long."""
    first = hashes.str.slice(0, 16).str.to_integer(base=16, dtype=pl.UInt64, strict=False)
    order = first.to_frame("first").select(pl.arg_sort_by("first", nulls_last=True, maintain_order=True))
    return order.to_series()


def _text_bytes(rows: pl.DataFrame) -> npt.NDArray[np.int64]:
    texts = pl.selectors.string().str.len_bytes().cast(pl.Int64)
    return rows.select(pl.sum_horizontal(texts)).to_series().to_numpy()


def _leaves(schema: pa.Schema) -> list[str]:
    """Return the columns as Parquet names them: each of a nested one is its own."""
    return [leaf for each in schema for leaf in _leaves_of(each.name, each.type)]


def _leaves_of(name: str, kind: pa.DataType) -> list[str]:
    if pa.types.is_list(kind):
        return _leaves_of(f"{name}.list.element", kind.value_type)
    if pa.types.is_struct(kind):
        return [leaf for each in kind for leaf in _leaves_of(f"{name}.{each.name}", each.type)]
    return [name]
