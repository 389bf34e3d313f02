"""Reads the id and text columns of Parquet files: whole row groups, in batches that a crafted file cannot swell."""

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llambert_etl.config import Source
from llambert_etl.errors import DataError
from llambert_etl.sources.clean import MAX_ID_CHARS
from llambert_etl.sources.columns import Columns, Row, strings
from llambert_etl.sources.drop import Rows
from llambert_etl.sources.records import Limits, Reason, Record, Refusal, UnreadableError
from llambert_etl.wording import listed

# Read at once: a crafted file's rows repeat a page of a megabyte, in a few bits each.
_READ_ROWS = 32
# Of columns that are dictionaries to Arrow, which hold such a value once, and are copied for each batch.
_DICTIONARY_ROWS = 16_384
# Looked at together.
_ROWS = 32_768
_BYTES = 4 << 20
# Of a row group, what is kept while the rest of it is looked at; a larger one is read twice.
_HELD_BYTES = 32 << 20
# As many may be null and take no room at all; beyond, no honest row takes less than a byte.
_FREE_ROWS = 1_000_000
_BUFFER_BYTES = 1 << 20
_MAGIC = b"PAR1"
# Polars tells of such columns in a way of its own, at which Arrow gives up the whole file.
_WIDE = "more than 64 bits"
# What Arrow raises for a damaged file. Our own errors from the file below pass through it unchanged.
_DAMAGED = (pa.ArrowException, OSError, UnicodeDecodeError)


class _File(NamedTuple):
    """A file's two columns."""

    file: pq.ParquetFile
    columns: list[str]
    batch_rows: int
    groups: list[int]

    def batches(self, group: int, rows: int | None = None) -> Iterator[pa.RecordBatch]:
        size = rows or self.batch_rows
        yield from self.file.iter_batches(size, row_groups=[group], columns=self.columns, use_threads=False)


def read_parquet(raw: io.RawIOBase, name: str, size: int, source: Source, limits: Limits) -> Rows:
    """Yield the rows of the row groups before the first damaged one, then a refusal for each row from there on.

    Raise DataError when a column is missing or of a kind that is no id or no text.
    """
    try:
        file = _opened(raw, name, source)
    except _DAMAGED as error:
        if _WIDE in str(error):
            raise DataError(
                f"{name!r}: a column holds integers of more than 64 bits (polars' Int128), which Parquet has not; "
                "write it as a string or as decimal(38,0)"
            ) from error
        yield Refusal("row 1", _unopened(raw, size))
        return
    row, unpacked = 1, 0
    try:
        _check_rows(file, size)
        for group in range(len(file.groups)):
            batches, unpacked = _whole_group(file, group, size, limits, unpacked)
            for batch in batches:
                yield from _rows(batch, row, source)
                row += batch.num_rows
    except UnreadableError as error:
        left = max(file.file.metadata.num_rows, sum(file.groups)) - row + 1
        # As many as an honest file of this size could hold, whatever its footer claims.
        for number in range(row, row + max(min(left, size), 1)):
            yield Refusal(f"row {number}", error.reason)


def _opened(raw: io.RawIOBase, name: str, source: Source) -> _File:
    file = pq.ParquetFile(
        pa.PythonFile(raw, mode="r"), buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
    )
    schema, footer = file.schema_arrow, file.metadata
    _check_kind(_kind_of(schema, source.id, name), source.id, name, id_too=True)
    _check_kind(_kind_of(schema, source.text, name), source.text, name, id_too=False)
    # In the order of the file, so that a store reads forward.
    columns = [column for column in schema.names if column in (source.id, source.text)]
    dictionaries = all(pa.types.is_dictionary(schema.field(column).type) for column in columns)
    groups = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
    return _File(file, columns, _DICTIONARY_ROWS if dictionaries else _READ_ROWS, groups)


def _kind_of(schema: pa.Schema, column: str, name: str) -> pa.DataType:
    if schema.names.count(column) != 1:
        raise DataError(
            f"{name!r}: column {column[:60]!r} expected once, columns found {listed(schema.names)}; "
            "mend the file, or source.id and source.text in the task file"
        )
    kind = schema.field(column).type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _check_kind(kind: pa.DataType, column: str, name: str, *, id_too: bool) -> None:
    # A column without any value, of no rows too, has the type null where pandas wrote it: it breaks no schema.
    if _is_string(kind) or pa.types.is_null(kind) or (id_too and _is_id(kind)):
        return
    wanted = "a string, an integer, a decimal without fraction or a uuid" if id_too else "a string"
    raise DataError(
        f"{name!r}: column {column[:60]!r} is {str(kind)[:60]}, expected {wanted}; write it as a string, in SQL by "
        f"{_cast_of(kind, column[:60])}"
    )


def _is_string(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or isinstance(kind, pa.JsonType)
    )


def _is_id(kind: pa.DataType) -> bool:
    whole = pa.types.is_decimal(kind) and kind.scale == 0
    return whole or pa.types.is_integer(kind) or isinstance(kind, pa.UuidType)


def _cast_of(kind: pa.DataType, column: str) -> str:
    """Say what makes a string of a column. Bytes may be text or may be a key, and only the producer knows which."""
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return f"decode({column}) where it holds UTF-8 and hex({column}) where it holds a key"
    if pa.types.is_fixed_size_binary(kind):
        return f"hex({column})"
    return f"CAST({column} AS VARCHAR)"


def _check_rows(file: _File, size: int) -> None:
    rows = file.file.metadata.num_rows
    if sum(file.groups) != rows:
        raise UnreadableError(Reason.FILE_CORRUPT)
    if rows > max(size, _FREE_ROWS):
        raise UnreadableError(Reason.FILE_BOMB)


def _whole_group(
    file: _File, group: int, size: int, limits: Limits, unpacked: int
) -> tuple[Iterable[pa.RecordBatch], int]:
    """Return a row group that can be read to its end, and `unpacked` with its bytes; else raise UnreadableError.

    A page whose header is damaged can yield fewer values than it holds: each text behind it then stands beside another
    document's id, and only the end of the group tells. So no row of a group counts before all of it was read.
    """
    left, held, begun = file.groups[group], list[pa.RecordBatch](), unpacked
    try:
        _check_claimed_size(file, group, size, limits)
        for batch in _gathered(file.batches(group)):
            left -= batch.num_rows
            unpacked += _bytes_of(batch)
            limits.check_unpacked(size, unpacked)
            if unpacked - begun <= _HELD_BYTES:
                held.append(batch)
    except _DAMAGED as error:
        raise UnreadableError(Reason.FILE_CORRUPT) from error
    if left:
        raise UnreadableError(Reason.FILE_CORRUPT)
    return held if unpacked - begun <= _HELD_BYTES else _gathered(file.batches(group)), unpacked


def _check_claimed_size(file: _File, group: int, size: int, limits: Limits) -> None:
    """Raise UnreadableError where the group would unpack to more than an honest file's."""
    claimed = file.file.metadata.row_group(group)
    if limits.allow(size, claimed.total_byte_size):
        return
    # Other columns may be large and honest. Looked at in Python before Arrow itself has seen them, damaged chunks of
    # the footer end the process (an exception that its binding lets through).
    next(file.batches(group, rows=1), None)
    schema = file.file.schema
    ours = [index for index in range(claimed.num_columns) if schema.column(index).path in file.columns]
    limits.check_unpacked(size, sum(claimed.column(index).total_uncompressed_size for index in ours))


def _bytes_of(batch: pa.RecordBatch) -> int:
    """Count the bytes of all values. Raise an Arrow error where an index leads out of its dictionary."""
    return sum(
        int(pc.sum(pc.binary_length(column.dictionary).take(column.indices)).as_py() or 0)
        if pa.types.is_dictionary(column.type) and _is_string(column.type.value_type)
        else int(column.nbytes)
        for column in batch.columns
    )


def _gathered(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    held, rows, size = list[pa.RecordBatch](), 0, 0
    for batch in batches:
        held.append(batch)
        rows, size = rows + batch.num_rows, size + batch.get_total_buffer_size()
        if rows >= _ROWS or size >= _BYTES:
            yield _joined(held)
            held, rows, size = [], 0, 0
    if held:
        yield _joined(held)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.concat_batches(batches) if len(batches) > 1 else batches[0]


def _rows(batch: pa.RecordBatch, first: int, source: Source) -> Rows:
    """Yield a batch in columns; the parts of it that hold bytes of no text, or endless ones, row by row."""
    parts = [(first, batch)]
    while parts:
        number, part = parts.pop()
        row = _reader(part, number, source)
        if (columns := _columns(part, number, source, row)) is not None:
            yield columns
        elif part.num_rows <= _READ_ROWS:
            yield from map(row, range(part.num_rows))
        else:
            half = part.num_rows // 2
            parts += [(number + half, part.slice(half)), (number, part.slice(0, half))]


def _columns(batch: pa.RecordBatch, first: int, source: Source, row: Callable[[int], Row]) -> Columns | None:
    if _bytes_of(batch) > 2 * _BYTES:
        return None
    with suppress(pa.ArrowInvalid):
        return strings("row", first, _strings(batch.column(source.id)), _strings(batch.column(source.text)), row)
    return None


def _strings(column: pa.Array) -> pa.Array:
    if isinstance(column.type, pa.UuidType):
        digits = pl.Series(column.storage).bin.encode("hex")
        groups = [digits.str.slice(start, length) for start, length in ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))]
        return pl.select(pl.concat_str(groups, separator="-")).to_series().to_arrow()
    if isinstance(column.type, pa.JsonType):
        return column.storage
    if pa.types.is_dictionary(column.type):
        return column.dictionary_decode()
    return column if _is_string(column.type) else column.cast(pa.string())


def _reader(batch: pa.RecordBatch, first: int, source: Source) -> Callable[[int], Row]:
    ids, texts = batch.column(source.id), batch.column(source.text)

    def row(index: int) -> Row:
        key, text = _value(ids[index], MAX_ID_CHARS), _value(texts[index], source.max_chars)
        for value in (key, text):
            if isinstance(value, Reason):
                return Refusal(f"row {first + index}", value)
        return Record(f"row {first + index}", key, text)

    return row


def _value(scalar: pa.Scalar, max_chars: int) -> object:
    """Return a value as Python has it; Reason in place of one that cannot be had.

    A string of more than `max_chars` in any encoding is cut, to more than so many still: it will be refused for that.
    """
    while scalar.is_valid and isinstance(scalar, pa.DictionaryScalar | pa.JsonScalar):
        scalar = scalar.value
    if not scalar.is_valid or not _is_string(scalar.type):
        return scalar.as_py()
    held, most = scalar.as_buffer(), 4 * max_chars  # bytes of a character of UTF-8
    if held.size > most:
        return held.slice(0, most + 4).to_pybytes().decode(errors="replace")
    try:
        return held.to_pybytes().decode()
    except UnicodeDecodeError:
        return Reason.LINE_NOT_UTF8


def _unopened(raw: io.RawIOBase, size: int) -> Reason:
    """Tell a file that never was Parquet from one that has lost its end, where the footer stands, or its footer."""
    raw.seek(0)
    if raw.read(len(_MAGIC)) != _MAGIC:
        return Reason.FILE_WRONG_KIND
    raw.seek(max(size - len(_MAGIC), 0))
    return Reason.FILE_CORRUPT if raw.read(len(_MAGIC)) == _MAGIC else Reason.FILE_TRUNCATED
