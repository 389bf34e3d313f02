"""Reads the id and text columns of Parquet files, in batches that a crafted file cannot swell."""

import io
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llambert_etl.config import Source
from llambert_etl.errors import DataError
from llambert_etl.sources.clean import MAX_ID_CHARS
from llambert_etl.sources.rows import Limits, Reason, Record, Refusal, UnreadableError
from llambert_etl.wording import listed

_BATCH_ROWS = 2_048
_BUFFER_BYTES = 1 << 20
# What Arrow raises for a damaged file. Our own errors from the file below pass through it unchanged.
_DAMAGED = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, OSError)


def read_parquet(raw: io.RawIOBase, name: str, size: int, source: Source, limits: Limits) -> Iterator[Record | Refusal]:
    """Yield the rows. Raise DataError when a column is missing or of a kind that is no id or no text."""
    row = 0
    try:
        file = _opened(raw, name, size, source, limits)
        unpacked = 0
        for batch in file.iter_batches(_BATCH_ROWS, columns=[source.id, source.text], use_threads=False):
            ids = _values(batch.column(source.id), MAX_ID_CHARS)
            texts = _values(batch.column(source.text), source.max_chars)
            for key, text in zip(ids, texts, strict=True):
                row += 1
                yield _record(f"row {row}", key, text)
                unpacked += len(text) if isinstance(text, str) else 0
                limits.check_unpacked(size, unpacked)
    except UnreadableError as error:
        yield Refusal(f"row {row + 1}", error.reason)
    except _DAMAGED:
        yield Refusal(f"row {row + 1}", Reason.FILE_CORRUPT if row else Reason.FILE_WRONG_KIND)


def _opened(raw: io.RawIOBase, name: str, size: int, source: Source, limits: Limits) -> pq.ParquetFile:
    file = pq.ParquetFile(pa.PythonFile(raw, mode="r"), buffer_size=_BUFFER_BYTES, pre_buffer=False)
    schema = file.schema_arrow
    strings = []
    for column, integers_too in ((source.id, True), (source.text, False)):
        if schema.names.count(column) != 1:
            raise DataError(
                f"{name!r}: column {column!r} expected once, columns found {listed(schema.names)}; "
                "mend the file, or source.id and source.text in the task file"
            )
        kind = schema.field(column).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            strings.append(column)
        # A column without any value, of no rows too, has the type null where pandas wrote it: it breaks no schema.
        elif not pa.types.is_null(kind) and not (integers_too and pa.types.is_integer(kind)):
            wanted = "a string or an integer" if integers_too else "a string"
            raise DataError(f"{name!r}: column {column!r} is {kind}, expected {wanted}; mend the file")
    _check_claimed_size(file.metadata, {source.id, source.text}, size, limits)
    # As dictionaries, a value that is repeated a million times is held once: 1 MB cannot become 1 TB in a batch.
    return pq.ParquetFile(
        pa.PythonFile(raw, mode="r"), buffer_size=_BUFFER_BYTES, pre_buffer=False, read_dictionary=strings
    )


def _check_claimed_size(footer: pq.FileMetaData, columns: set[str], size: int, limits: Limits) -> None:
    for group in range(footer.num_row_groups):
        chunks = (footer.row_group(group).column(index) for index in range(footer.num_columns))
        limits.check_unpacked(
            size, sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in columns)
        )


def _values(column: pa.Array, max_chars: int) -> Iterator[object]:
    """Yield values as Python has them; Reason in place of one that cannot be had.

    A string of more than `max_chars` in any encoding is cut, to more than so many still: it will be refused for that.
    """
    if not pa.types.is_dictionary(column.type):
        yield from column.to_pylist()
        return
    lengths = pc.binary_length(column.dictionary).to_pylist()
    most = 4 * max_chars  # bytes of a character of UTF-8
    for index in column.indices.to_pylist():
        if index is None:
            yield None
        elif (lengths[index] or 0) > most:
            yield column.dictionary[index].as_buffer().slice(0, most + 4).to_pybytes().decode(errors="replace")
        else:
            try:
                yield column.dictionary[index].as_py()
            except UnicodeDecodeError:
                yield Reason.LINE_NOT_UTF8


def _record(place: str, key: object, text: object) -> Record | Refusal:
    for value in (key, text):
        if isinstance(value, Reason):
            return Refusal(place, value)
    return Record(place, key, text)
