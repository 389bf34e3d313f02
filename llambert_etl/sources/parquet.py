"""Reads the id and text columns of Parquet files: whole row groups, in batches that a crafted file cannot swell."""

import io
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llambert_etl.config import Source
from llambert_etl.errors import DataError
from llambert_etl.sources.clean import MAX_ID_CHARS
from llambert_etl.sources.drop import Rows
from llambert_etl.sources.records import Limits, Reason, Record, Refusal, UnreadableError
from llambert_etl.wording import listed

_BATCH_ROWS = 2_048
# Of values that may repeat each other in a few bits, and that Arrow does not read as a dictionary.
_SPARE_ROWS = 8
# As many may be null and take no room at all; beyond, no honest row takes less than a byte.
_FREE_ROWS = 1_000_000
_BUFFER_BYTES = 1 << 20
_MAGIC = b"PAR1"
# What Arrow raises for a damaged file. Our own errors from the file below pass through it unchanged.
_DAMAGED = (pa.ArrowException, OSError, UnicodeDecodeError)


class _Way(NamedTuple):
    """A way to read the two columns of a file."""

    file: pq.ParquetFile
    columns: list[str]
    batch_rows: int

    def batches(self, group: int) -> Iterator[pa.RecordBatch]:
        yield from self.file.iter_batches(self.batch_rows, row_groups=[group], columns=self.columns, use_threads=False)


def read_parquet(raw: io.RawIOBase, name: str, size: int, source: Source, limits: Limits) -> Rows:
    """Yield the rows of the row groups before the first damaged one, then a refusal for each row from there on.

    Raise DataError when a column is missing or of a kind that is no id or no text.
    """
    try:
        ways = _ways(raw, name, source)
    except _DAMAGED:
        yield Refusal("row 1", _unopened(raw, size))
        return
    sound, fault = _sound_groups(ways, size, limits)
    row = 0
    for group, way in enumerate(sound):
        for batch in way.batches(group):
            ids = _values(batch.column(source.id), MAX_ID_CHARS)
            texts = _values(batch.column(source.text), source.max_chars)
            for key, text in zip(ids, texts, strict=True):
                row += 1
                yield _record(f"row {row}", key, text)
    if fault is not None:
        footer = ways[0].file.metadata
        lost = max(footer.num_rows, sum(_group_rows(footer))) - row
        # As many as an honest file of this size could hold, whatever its footer claims.
        for number in range(row + 1, row + 1 + max(min(lost, size), 1)):
            yield Refusal(f"row {number}", fault)


def _ways(raw: io.RawIOBase, name: str, source: Source) -> list[_Way]:
    """Open the file for the fast way to read it, and for the one that reads every encoding."""
    file = _file(raw)
    kinds = {column: _kind_of(file.schema_arrow, column, name) for column in (source.id, source.text)}
    _check_kind(kinds[source.id], source.id, name, id_too=True)
    _check_kind(kinds[source.text], source.text, name, id_too=False)
    # In the order of the file, so that a store reads forward.
    columns = [column for column in file.schema_arrow.names if column in kinds]
    spare = _Way(file, columns, _SPARE_ROWS)
    if any(isinstance(kind, pa.JsonType) for kind in kinds.values()):
        return [spare]
    # As dictionaries, a value that is repeated a million times is held once: 1 MB cannot become 1 TB in a batch. But
    # so Arrow reads no column that has delta encodings (DuckDB's `PARQUET_VERSION v2`, say).
    strings = [column for column, kind in kinds.items() if _is_string(kind)]
    return [_Way(_file(raw, file.metadata, strings), columns, _BATCH_ROWS), spare]


def _group_rows(footer: pq.FileMetaData) -> list[int]:
    return [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]


def _file(
    raw: io.RawIOBase, footer: pq.FileMetaData | None = None, read_dictionary: list[str] | None = None
) -> pq.ParquetFile:
    return pq.ParquetFile(
        pa.PythonFile(raw, mode="r"),
        metadata=footer,
        buffer_size=_BUFFER_BYTES,
        pre_buffer=False,
        read_dictionary=read_dictionary,
        page_checksum_verification=True,
    )


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


def _sound_groups(ways: list[_Way], size: int, limits: Limits) -> tuple[list[_Way], Reason | None]:
    """Return the way to read each row group, from the first, and what is wrong with the one behind them.

    A page whose header is damaged can yield fewer values than it holds: each text behind it then stands beside another
    document's id, and only the end of the group tells. So no row of a group counts before all of it was read.
    """
    footer, unpacked = ways[0].file.metadata, 0
    groups, sound = _group_rows(footer), list[_Way]()
    if sum(groups) != footer.num_rows:
        return [], Reason.FILE_CORRUPT
    if footer.num_rows > max(size, _FREE_ROWS):
        return [], Reason.FILE_BOMB
    for group, rows in enumerate(groups):
        try:
            way, unpacked = _way_through(ways, group, rows, size, limits, unpacked)
        except UnreadableError as error:
            return sound, error.reason
        sound.append(way)
    return sound, None


def _way_through(ways: list[_Way], group: int, rows: int, size: int, limits: Limits, unpacked: int) -> tuple[_Way, int]:
    """Return the first way that reads all rows of a group, and `unpacked` with the bytes of its strings."""
    for way in ways:
        left, held = rows, unpacked
        with suppress(*_DAMAGED):
            _check_claimed_size(way, group, size, limits)
            for batch in way.batches(group):
                left -= batch.num_rows
                held += sum(map(_bytes_of, batch.columns))
                limits.check_unpacked(size, held)
            if not left:
                return way, held
    raise UnreadableError(Reason.FILE_CORRUPT)


def _check_claimed_size(way: _Way, group: int, size: int, limits: Limits) -> None:
    """Raise UnreadableError where the group would unpack to more than an honest file's."""
    claimed = way.file.metadata.row_group(group)
    if limits.allow(size, claimed.total_byte_size):
        return
    # Other columns may be large and honest. Looked at in Python before Arrow itself has seen them, damaged chunks of
    # the footer end the process (an exception that its binding lets through).
    next(_Way(way.file, way.columns, 1).batches(group), None)
    schema = way.file.schema
    ours = [index for index in range(claimed.num_columns) if schema.column(index).path in way.columns]
    limits.check_unpacked(size, sum(claimed.column(index).total_uncompressed_size for index in ours))


def _bytes_of(column: pa.Array) -> int:
    """Count the bytes of the strings. Raise an Arrow error where an index leads out of its dictionary."""
    if pa.types.is_dictionary(column.type):
        lengths = pc.binary_length(column.dictionary).take(column.indices)
        return int(pc.sum(lengths).as_py() or 0)
    return int(column.nbytes)


def _values(column: pa.Array, max_chars: int) -> Iterator[object]:
    """Yield values as Python has them; Reason in place of one that cannot be had.

    A string of more than `max_chars` in any encoding is cut, to more than so many still: it will be refused for that.
    """
    if isinstance(column.type, pa.JsonType):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        strings, places = column.dictionary, column.indices.to_pylist()
    elif _is_string(column.type):
        # There is no length of a string_view.
        strings = column.cast(pa.large_string()) if pa.types.is_string_view(column.type) else column
        places = range(len(column))
    else:
        yield from column.to_pylist()
        return
    lengths = pc.binary_length(strings).to_pylist()
    most = 4 * max_chars  # bytes of a character of UTF-8
    for index in places:
        if index is None:
            yield None
        elif (lengths[index] or 0) > most:
            yield strings[index].as_buffer().slice(0, most + 4).to_pybytes().decode(errors="replace")
        else:
            try:
                yield strings[index].as_py()
            except UnicodeDecodeError:
                yield Reason.LINE_NOT_UTF8


def _record(place: str, key: object, text: object) -> Record | Refusal:
    for value in (key, text):
        if isinstance(value, Reason):
            return Refusal(place, value)
    return Record(place, key, text)


def _unopened(raw: io.RawIOBase, size: int) -> Reason:
    """Tell a file that never was Parquet from one that has lost its end, where the footer stands, or its footer."""
    raw.seek(0)
    if raw.read(len(_MAGIC)) != _MAGIC:
        return Reason.FILE_WRONG_KIND
    raw.seek(max(size - len(_MAGIC), 0))
    return Reason.FILE_CORRUPT if raw.read(len(_MAGIC)) == _MAGIC else Reason.FILE_TRUNCATED
