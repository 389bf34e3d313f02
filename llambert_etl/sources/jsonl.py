"""Reads JSON lines: many at a time where Arrow reads them as Python's json does, and else one by one."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.json

from llambert_etl.config import Source
from llambert_etl.sources.columns import Columns, Row, strings
from llambert_etl.sources.drop import Rows
from llambert_etl.sources.records import Missing, Reason, Record, Refusal, UnreadableError
from llambert_etl.sources.streams import BOM, Lines, decoded

# So many are read one by one because of one of them.
_FEW_BYTES = 8_192
_NEWLINE, _RETURN, _OPEN, _CLOSE = b"\n\r{}"
# What Arrow reads in fields that nobody asked for, and json does not: other names of numbers, levels beyond about a
# thousand, and integers beyond 4,300 digits: at eight places in a row, each so far from the next, there is a digit.
_INF, _NAN = re.compile(rb"Inf[ \t\r\n]*[,}\]]"), re.compile(rb"-NaN")
_MANY_LEVELS = 200
_MANY_DIGITS = 4_000
_LOOK_EVERY = 500
_DIGITS = re.compile(rb"[0-9]{8}")
# A file is none of JSON lines where not one of so many, its first ones, is an object.
_LOOKED_AT = 1_000
_NO_OBJECT = {Reason.LINE_NOT_JSON, Reason.LINE_NOT_OBJECT, Reason.LINE_NOT_UTF8, Reason.LINE_TOO_LONG}
# Where an array begins that goes on in other lines, as DuckDB and many scripts write them. Its last object has no comma
# behind it, and would be taken for the one sound line of many.
_ARRAY = re.compile(r"\s*\[\s*(\{.*,\s*)?")


class _Twice(dict[str, object]):
    """An object in which names come more than once: a parser takes one of their values, and which is its own affair."""

    names: frozenset[str] = frozenset()


def read_jsonl(blocks: Iterator[Lines], source: Source, limit: int) -> Rows:
    """Yield the rows; where no line is an object, refuse the file in place of its first line.

    As one bad line, or a few, all that it holds would be lost among the good files of a day: JSON in one array, lines
    that end with CR alone, the page on which a server says that it is busy.
    """
    rows, first = _read(blocks, source, limit), list[Row | Columns]()
    for row in rows:
        first.append(row)
        if not isinstance(row, Refusal) or len(first) == _LOOKED_AT:
            break
    refused = [row for row in first if isinstance(row, Refusal) and row.reason in _NO_OBJECT]
    if refused and len(refused) == len(first):
        first[0] = refused[0]._replace(reason=Reason.FILE_WRONG_KIND)
    yield from first
    yield from rows


def _read(blocks: Iterator[Lines], source: Source, limit: int) -> Rows:
    block = Lines(1, 0, b"")
    # Strings, until a file has integers.
    kinds = [pa.string(), pa.int64()]
    try:
        for block in blocks:
            parts = [block]
            while parts:
                part = parts.pop()
                if (columns := _columns(part, source, limit, kinds)) is not None:
                    yield columns
                elif len(part.data or b"") > _FEW_BYTES and (halves := part.halves()):
                    parts += reversed(halves)
                else:
                    yield from (_parse(line, source) for line in part.each(limit) if not line.is_blank)
    except UnreadableError as error:
        next_ = block.number + 1 if block.data is None else block.behind().number
        yield Refusal(f"line {next_}", error.reason)


def _columns(lines: Lines, source: Source, limit: int, kinds: list[pa.DataType]) -> Columns | None:
    """Parse them all; None where that might say other than `_parse` does of each of them.

    What is null here may be null in the line or absent from it: `_parse` tells.
    """
    if lines.data is None or len(lines.data) > limit:
        return None
    data = lines.data.removeprefix(BOM) if lines.number == 1 else lines.data
    count = _objects(data)
    if not count or not _is_utf8(data):
        return None
    for kind in tuple(kinds):
        table = _parsed(data, source, kind)
        if table is not None and table.num_rows == count:
            kinds.remove(kind)
            kinds.insert(0, kind)
            break
    else:
        return None
    each = cache(lambda: list(Lines(lines.number, 0, data).each(limit)))

    def row(index: int) -> Row:
        return _parse(each()[index], source)

    return strings("line", lines.number, table[source.id].cast(pa.string()), table[source.text], row)


def _objects(data: bytes) -> int:
    """Return the number of lines where Arrow reads an object from each of them, or fails; else 0.

    One that begins with { and ends with } is one object, or none: within an object no } stands before a {.
    """
    characters = np.frombuffer(data, np.uint8)[: len(data) - data.endswith(b"\n")]
    ends = np.append(np.flatnonzero(characters == _NEWLINE), len(characters))
    starts = np.append(0, ends[:-1] + 1)
    if (ends - starts).min() < len(b"{}\r"):
        return 0
    lasts = np.where(characters[ends - 1] == _RETURN, characters[ends - 2], characters[ends - 1])
    if (characters[starts] != _OPEN).any() or (lasts != _CLOSE).any():
        return 0
    return len(ends) if _is_plain(data, int((ends - starts).max())) else 0


def _is_plain(data: bytes, longest: int) -> bool:
    """Tell whether Arrow reads no more than json does in the fields that are passed over."""
    if _NAN.search(data) or _INF.search(data):
        return False
    if longest > _MANY_DIGITS and _DIGITS.search(data[::_LOOK_EVERY]):
        return False
    if longest <= 2 * _MANY_LEVELS or data.count(b"{") + data.count(b"[") <= _MANY_LEVELS:
        return True
    return all(line.count(b"{") + line.count(b"[") <= _MANY_LEVELS for line in data.split(b"\n"))


def _is_utf8(data: bytes) -> bool:
    try:
        return data.isascii() or bool(data.decode())
    except UnicodeDecodeError:
        return False


def _parsed(data: bytes, source: Source, kind: pa.DataType) -> pa.Table | None:
    wanted = pa.schema([(source.id, kind), (source.text, pa.string())])
    try:
        return pyarrow.json.read_json(
            pa.BufferReader(data),
            pyarrow.json.ReadOptions(use_threads=False, block_size=len(data) + 1),
            pyarrow.json.ParseOptions(explicit_schema=wanted, unexpected_field_behavior="ignore"),
        )
    except pa.ArrowException:
        return None


def _parse(line: Lines, source: Source) -> Record | Refusal:
    place = f"line {line.number}"
    text = decoded(line)
    if isinstance(text, Refusal):
        return text
    try:
        # Files that were joined keep the mark that each began with.
        value = json.loads(text.removeprefix(BOM.decode()), object_pairs_hook=_object)
    except RecursionError:
        return Refusal(place, Reason.LINE_TOO_DEEP)
    except ValueError:
        return Refusal(place, Reason.FILE_WRONG_KIND if _ARRAY.fullmatch(text) else Reason.LINE_NOT_JSON)
    if not isinstance(value, dict):
        return Refusal(place, Reason.LINE_NOT_OBJECT)
    if isinstance(value, _Twice) and value.names & {source.id, source.text}:
        return Refusal(place, Reason.LINE_AMBIGUOUS)
    absent = None if source.id in value and source.text in value else Missing(tuple(value))
    return Record(place, value.get(source.id, absent), value.get(source.text, absent))


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    twice = _Twice(found)
    twice.names = frozenset(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
    return twice
