"""Reads comma-separated values as RFC 4180 has them: many records at a time, and where that does not do one by one."""

import csv
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import polars as pl

from llambert_etl.config import Source
from llambert_etl.errors import DataError
from llambert_etl.sources.columns import Columns
from llambert_etl.sources.drop import Rows
from llambert_etl.sources.records import Reason, Record, Refusal, UnreadableError
from llambert_etl.sources.streams import BOM, Lines, decoded
from llambert_etl.wording import heading

# Lines are held until their quotes match, and each costs more than its bytes.
_MAX_RECORD_LINES = 100_000
# So many are read one by one because of one of them; then twice as many together each time, until there is another.
_FEW_BYTES = 8_192
_MOST_BYTES = 4 << 20
_FEW_RECORDS = 1_024


class _Many(NamedTuple):
    """Records that were read together, each with the number of its first line; no header is among them."""

    numbers: list[int]
    fields: list[list[str]]

    def columns(self, id_at: int, text_at: int) -> Columns:
        ids, texts = ([fields[at] for fields in self.fields] for at in (id_at, text_at))
        places = pl.select(pl.format("line {}", pl.Series(self.numbers))).to_series()

        def row(index: int) -> Record:
            return Record(f"line {self.numbers[index]}", ids[index], texts[index])

        return Columns(places, pl.Series(ids), pl.Series(texts), row)


def read_csv(blocks: Iterator[Lines], name: str, source: Source, limit: int) -> Rows:
    """Yield the rows; the first record names the columns. A record has `limit` bytes at most."""
    # The csv module's limit is the process's; ours is on the whole record, and has already been applied.
    csv.field_size_limit(limit)
    records = _CsvRecords(blocks, limit)
    header: list[str] | None = None
    at = 0, 0
    try:
        for place, fields in records:
            if isinstance(fields, _Many):
                yield fields.columns(*at)
            elif header is None:
                header = _header(fields, name)
                at = _column(header, source.id, source, name), _column(header, source.text, source, name)
            elif isinstance(fields, Refusal):
                yield fields
            elif _is_again(header, fields):
                yield Refusal(place, Reason.LINE_NOT_CSV)
            else:
                yield Record(place, fields[at[0]], fields[at[1]])
    except UnreadableError as error:
        yield Refusal(f"line {records.number + 1}", error.reason)


class _CsvRecords:
    """The records of a CSV file with their places, each of one line or of several: a quoted field may hold newlines.

    A stray quote takes the lines that follow with it. So of several lines that are no record only the first is
    refused, and the others are read again, each by itself: where the quote of such a line is not closed on it, it is
    refused without looking further, or a file of stray quotes would be read as often as it has lines.
    """

    def __init__(self, blocks: Iterator[Lines], limit: int) -> None:
        self.number = 0
        self._blocks, self._limit = blocks, limit
        # What comes next: lines to be read one by one, then parts of the block that they were in, the last one first.
        self._lines, self._parts = deque[Lines](), list[Lines]()
        self._held: list[Lines] = []
        self._fault: Refusal | None = None
        # The last of the lines that a bad record took with it.
        self._taken = 0
        self._names: list[str] | None = None
        self._broken: UnreadableError | None = None

    def __iter__(self) -> Iterator[tuple[str, "list[str] | Refusal | _Many"]]:
        while True:
            if not self._lines:
                yield from self._together()
            if (first := self._next()) is None:
                break
            if not first.is_blank:
                yield from self._record(first)
        if self._broken is not None:
            raise self._broken

    def _together(self) -> Iterator[tuple[str, "list[str] | _Many"]]:
        """Read many at a time, as far as the record that has to be looked at by itself, if it is only for its width."""
        size = _FEW_BYTES
        while self._names is not None and (part := self._part()) is not None:
            found, left, goes_on = self._parsed(self._cut(part, size), self._names)
            if len(found.fields) < _FEW_RECORDS:
                yield from ((f"line {number}", fields) for number, fields in zip(*found, strict=True))
            else:
                yield f"line {found.numbers[0]}", found
            if left is not None:
                if not (goes_on and found.fields):
                    self._parts.append(left)
                    return
                self._put_before_the_next(left)
            size = min(2 * size, _MOST_BYTES)

    def _parsed(self, lines: Lines, names: list[str]) -> tuple[_Many, Lines | None, bool]:
        """Return the records before the first line that is not sound, what begins with it, and if more may mend it."""
        found = _Many([], [])
        if lines.data is None or len(lines.data) > self._limit or len(names) < 2:
            return found, lines, False
        data = _utf8(lines.data)
        texts = [f"{line}\n" for line in data.decode().removesuffix("\n").split("\n")] if data else []
        reader = csv.reader(texts, strict=True)
        done, goes_on = 0, False
        try:
            for fields in reader:
                # A record that ends as the header does may be one.
                if fields and (len(fields) != len(names) or fields[-1] == names[-1]):
                    break
                if reader.line_num - done > _MAX_RECORD_LINES:
                    break
                if fields:
                    found.numbers.append(lines.number + done)
                    found.fields.append(fields)
                done = reader.line_num
        except csv.Error:
            goes_on = reader.line_num == len(texts) and data is lines.data
        self.number = max(self.number, lines.number + done - 1)
        return found, lines.after(done), goes_on

    def _record(self, first: Lines) -> Iterator[tuple[str, list[str] | Refusal]]:
        self._held, self._fault = [first], None
        try:
            fields = next(csv.reader(self._texts(), strict=True))
        except (csv.Error, StopIteration):
            yield f"line {first.number}", self._refused(first)
            return
        if self._names is not None and len(self._names) != len(fields):
            # Its quotes match, so its lines are one text and must not be read as rows; each is refused, and counted.
            for line in self._held:
                yield f"line {line.number}", Refusal(f"line {line.number}", Reason.LINE_NOT_CSV)
            return
        if self._fault is None:
            self._names = self._names or fields
        yield f"line {first.number}", self._fault or fields

    def _texts(self) -> Iterator[str]:
        """Yield the lines of one record as the csv module asks for them, which is while a quote is open."""
        size = 0
        line: Lines | None = self._held[0]
        while line is not None and line.data is not None:
            size += len(line.data) + 1
            if size > self._limit or len(self._held) > _MAX_RECORD_LINES:
                return
            text = decoded(line)
            if isinstance(text, Refusal):
                self._fault = self._fault or text
                # Its commas and quotes still say where the record ends.
                text = line.data.decode(errors="surrogateescape")
            yield text + "\n"
            if line.number < self._taken:
                return
            line = self._next()
            if line is not None:
                self._held.append(line)

    def _refused(self, first: Lines) -> Refusal:
        """Refuse the first line of what is held, and let the others be read again."""
        self._taken = max(self._taken, self._held[-1].number)
        self._lines.extendleft(reversed(self._held[1:]))
        size = sum(self._limit if line.data is None else len(line.data) + 1 for line in self._held)
        text = decoded(first)
        if isinstance(text, Refusal):
            return text
        reason = Reason.LINE_TOO_LONG if size > self._limit else Reason.LINE_NOT_CSV
        return Refusal(f"line {first.number}", reason)

    def _next(self) -> Lines | None:
        if not self._lines and (part := self._part()) is not None:
            self._lines.extend(self._cut(part, _FEW_BYTES).each(self._limit))
        if not self._lines:
            return None
        line = self._lines.popleft()
        self.number = max(self.number, line.number)
        return line

    def _part(self) -> Lines | None:
        if self._parts:
            return self._parts.pop()
        try:
            return next(self._blocks, None)
        except UnreadableError as error:
            self._broken = error
            return None

    def _put_before_the_next(self, left: Lines) -> None:
        behind = self._part()
        if behind is not None and behind.data is not None:
            self._parts.append(left._replace(data=(left.data or b"") + behind.data))
        else:
            self._parts += [left] if behind is None else [behind, left]

    def _cut(self, part: Lines, size: int) -> Lines:
        """Return the lines of a part that begin in its first bytes, as many as `size`; the others come next."""
        first, others = part.cut(size)
        if others is not None:
            self._parts.append(others)
        return first


def _utf8(data: bytes) -> bytes:
    """Return the lines before the first one that is no UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return data[: data.rfind(b"\n", 0, error.start) + 1]
    return data


def _header(found: list[str] | Refusal, name: str) -> list[str]:
    """Return the names of the columns. Raise DataError where they cannot be read: no row can be without them."""
    if isinstance(found, Refusal):
        raise DataError(
            f"{name!r}: its first line, which names the columns, cannot be read ({found.place}: {found.reason}); write "
            "the file in UTF-8, with every quote closed and a newline at the end of each line"
        )
    return found


def _is_again(header: list[str], fields: list[str]) -> bool:
    """Tell whether a row is the header once more, as where one file was joined to another with its byte order mark."""
    return fields[1:] == header[1:] and fields[0].removeprefix(BOM.decode()).strip('"') == header[0]


def _column(found: list[str], wanted: str, source: Source, name: str) -> int:
    if found.count(wanted) != 1:
        raise DataError(
            f"{name!r}: column {wanted!r} expected once, {heading(found, (source.id, source.text))}; "
            "mend the file, or source.id and source.text in the task file"
        )
    return found.index(wanted)
