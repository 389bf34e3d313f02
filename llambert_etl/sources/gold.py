"""Reads gold files: labels that people gave, as Parquet, CSV or JSON lines."""

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llambert_etl.errors import DataError
from llambert_etl.wording import shown, told

MAX_BYTES = 1 << 30

_COLUMNS = ("id", "label", "text", "split", "annotator", "labelled_at")

GoldRow = dict[str, object]


def parse_gold(content: bytes, name: str) -> list[GoldRow]:
    """Return the rows as the file has them. Raise DataError naming the row that cannot be read."""
    suffix = Path(name).suffix.lower()
    found: list[GoldRow]
    try:
        if suffix == ".parquet":
            found = _parquet(content, name)
        elif suffix == ".csv":
            found = _csv(content, name)
        elif suffix == ".jsonl":
            found = _jsonl(content, name)
        else:
            raise DataError(f"gold {name!r}: expected a .parquet, .csv or .jsonl file")
    except UnicodeDecodeError as error:
        raise DataError(f"gold {name!r} is not UTF-8 at byte {error.start}; save it in UTF-8") from error
    except (ValueError, OSError, pa.ArrowException) as error:
        raise DataError(f"gold {name!r} is not a readable {suffix} file: {told(error)}; write it again") from error
    for number, row in enumerate(found, 1):
        if not isinstance(row, dict):
            raise DataError(f"gold {name!r} row {number}: expected an object with id and label")
    return found


def _jsonl(content: bytes, name: str) -> list[GoldRow]:
    found: list[GoldRow] = []
    for line in filter(str.strip, content.decode("utf-8-sig").split("\n")):
        try:
            found.append(json.loads(line, object_pairs_hook=_object))
        except (ValueError, RecursionError) as error:
            said = told(error).partition(": line 1 ")[0]  # of its own line, each is the first
            raise DataError(f"gold {name!r} row {len(found) + 1} cannot be read: {said}; mend the row") from error
    return found


def _object(pairs: list[tuple[str, object]]) -> GoldRow:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a row has a field twice")
    return found


def _parquet(content: bytes, name: str) -> list[GoldRow]:
    table = pq.read_table(io.BytesIO(content), page_checksum_verification=True)
    _check_header(table.column_names, name)
    values = []
    for column in table.column_names:
        try:
            values.append(table[column].to_pylist())
        except (ValueError, OverflowError, LookupError) as error:
            # A year or a time zone that Python does not know, among others.
            raise DataError(
                f"gold {name!r}: column {shown(column)} cannot be read: {error!s:.80}; write it again"
            ) from error
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*values, strict=True)]


def _csv(content: bytes, name: str) -> list[GoldRow]:
    csv.field_size_limit(MAX_BYTES)  # the task says how long a text may be
    reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
    records = filter(None, reader)
    try:
        header, rows = next(records, []), list(records)
    except csv.Error as error:
        raise DataError(f"gold {name!r} line {reader.line_num} cannot be read: {error}; mend the line") from error
    _check_header(header, name)
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise DataError(
                f"gold {name!r} row {number}: {len(row)} fields, expected {len(header)} as in the header; mend the row"
            )
    return [dict(zip(header, row, strict=True)) for row in rows]


def _check_header(columns: list[str], name: str) -> None:
    if twice := [column for column in _COLUMNS if columns.count(column) > 1]:
        raise DataError(f"gold {name!r}: columns {twice} stand there twice; keep one of each")
