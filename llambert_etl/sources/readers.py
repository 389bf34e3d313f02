"""Reads JSON lines and CSV row by row, and finds the reader of a file by its name."""

import csv
import io
import json
from collections.abc import Iterator

from llambert_etl.config import Source
from llambert_etl.errors import DataError
from llambert_etl.sources.parquet import read_parquet
from llambert_etl.sources.rows import MISSING, Limits, Reason, Record, Refusal, UnreadableError
from llambert_etl.sources.streams import Line, split_lines, text_pieces

Rows = Iterator[Record | Refusal]

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".ndjson.gz", ".csv", ".csv.gz", ".csv.zst", ".parquet")

_BOM = "\ufeff"


def read_rows(raw: io.RawIOBase, name: str, size: int, source: Source, limits: Limits) -> Rows:
    """Yield each row of a file as a record or a refusal, in bounded memory.

    Raise DataError when a file that declares its columns (CSV, Parquet) lacks one: the producer's schema has changed.
    """
    lower = name.lower()
    if lower.endswith(".parquet"):
        yield from read_parquet(raw, name, size, source, limits)
        return
    if not lower.endswith(SUFFIXES):
        yield Refusal("line 1", Reason.FILE_WRONG_KIND)
        return
    # A text of `max_chars` may be written as twelve bytes a character (an escaped surrogate pair).
    limit = max(limits.line_bytes, 12 * source.max_chars)
    lines = split_lines(text_pieces(raw, lower, limits), limit)
    yield from read_csv(lines, name, source, limit) if ".csv" in lower[-8:] else read_jsonl(lines, source)


def read_jsonl(lines: Iterator[Line], source: Source) -> Rows:
    number = 0
    try:
        for line in lines:
            number = line.number
            if line.data is None or line.data.strip():
                yield _parse_json(line, source)
    except UnreadableError as error:
        yield Refusal(f"line {number + 1}", error.reason)


def _parse_json(line: Line, source: Source) -> Record | Refusal:
    place = f"line {line.number}"
    text = _decode(line)
    if isinstance(text, Refusal):
        return text
    try:
        value = json.loads(text)
    except RecursionError:
        return Refusal(place, Reason.LINE_TOO_DEEP)
    except ValueError:
        return Refusal(place, Reason.LINE_NOT_JSON)
    if not isinstance(value, dict):
        return Refusal(place, Reason.LINE_NOT_OBJECT)
    return Record(place, value.get(source.id, MISSING), value.get(source.text, MISSING))


def _decode(line: Line) -> str | Refusal:
    if line.data is None:
        return Refusal(f"line {line.number}", Reason.LINE_TOO_LONG)
    try:
        text = line.data.decode()
    except UnicodeDecodeError as error:
        return Refusal(f"byte {line.offset + error.start}", Reason.LINE_NOT_UTF8)
    return text.removeprefix(_BOM) if line.number == 1 else text


def read_csv(lines: Iterator[Line], name: str, source: Source, limit: int) -> Rows:
    """Read comma-separated values as RFC 4180 has them; the first record names the columns."""
    # The csv module's limit is the process's; ours is on the whole record, and has already been applied.
    csv.field_size_limit(limit)
    columns: tuple[int, int, int] | None = None
    number = 0
    try:
        for line in _csv_records(lines, limit):
            number = line.number
            fields = _parse_csv(line)
            if isinstance(fields, Refusal):
                yield fields
            elif columns is None:
                columns = len(fields), _column(fields, source.id, name), _column(fields, source.text, name)
            elif len(fields) != columns[0]:
                yield Refusal(f"line {line.number}", Reason.LINE_NOT_CSV)
            else:
                yield Record(f"line {line.number}", fields[columns[1]], fields[columns[2]])
    except UnreadableError as error:
        yield Refusal(f"line {number + 1}", error.reason)


def _csv_records(lines: Iterator[Line], limit: int) -> Iterator[Line]:
    """Join lines until their quotes are balanced: a quoted field may hold newlines. The limit is the record's.

    A stray quote takes what follows, up to the next one, with it: one refusal, and the file goes on behind it.
    """
    held: list[bytes] = []
    first: Line | None = None
    size, quotes = 0, 0
    for line in lines:
        if first is None:
            if line.data is not None and not line.data.strip():
                continue
            first, size, quotes = line, 0, 0
        data = line.data or b""
        quotes += data.count(b'"')
        size += limit + 1 if line.data is None else len(data) + 1
        if size <= limit:
            held.append(data)
        # The quotes of a line that was thrown away are unknown, so the record ends there.
        if quotes % 2 == 0 or line.data is None:
            yield _record_of(first, held, size <= limit)
            first = None
            held.clear()
    if first is not None:
        yield _record_of(first, held, size <= limit)


def _record_of(first: Line, held: list[bytes], whole: bool) -> Line:
    return Line(first.number, first.offset, b"\n".join(held) if whole else None)


def _parse_csv(line: Line) -> list[str] | Refusal:
    text = _decode(line)
    if isinstance(text, Refusal):
        return text
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error:
        return Refusal(f"line {line.number}", Reason.LINE_NOT_CSV)
    return rows[0] if rows else Refusal(f"line {line.number}", Reason.LINE_NOT_CSV)


def _column(header: list[str], wanted: str, name: str) -> int:
    if header.count(wanted) != 1:
        raise DataError(
            f"{name!r}: column {wanted!r} expected once, columns found {header[:50]}; "
            "mend the file, or source.id and source.text in the task file"
        )
    return header.index(wanted)
