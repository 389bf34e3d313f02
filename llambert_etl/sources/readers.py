"""Finds the reader of a file by its name, and reads CSV row by row."""

import csv
import io
from collections import deque
from collections.abc import Iterator

from llambert_etl.config import Source
from llambert_etl.errors import DataError
from llambert_etl.sources.drop import Rows
from llambert_etl.sources.jsonl import read_jsonl
from llambert_etl.sources.parquet import read_parquet
from llambert_etl.sources.records import Limits, Reason, Record, Refusal, UnreadableError
from llambert_etl.sources.streams import BOM, Lines, decoded, text_pieces, whole_lines
from llambert_etl.wording import heading

SUFFIXES = (*(kind + packed for kind in (".jsonl", ".ndjson", ".csv") for packed in ("", ".gz", ".zst")), ".parquet")

# Lines are held until their quotes match, and each costs more than its bytes.
_MAX_RECORD_LINES = 100_000


def read_rows(raw: io.RawIOBase, name: str, size: int, source: Source, limits: Limits) -> Rows:
    """Yield each row of a file as a record or a refusal, or many in columns, in bounded memory.

    Raise DataError when a file that declares its columns (CSV, Parquet) lacks one: the producer's schema has changed.
    """
    lower = name.lower()
    if lower.endswith(".parquet"):
        yield from read_parquet(raw, name, size, source, limits)
        return
    if not lower.endswith(SUFFIXES):
        marker = name.rpartition("/")[2].startswith(("_", "."))
        yield Refusal("line 1", Reason.MARKER if marker else Reason.FILE_WRONG_KIND)
        return
    # A text of `max_chars` may be written as twelve bytes a character (an escaped surrogate pair).
    limit = max(limits.line_bytes, 12 * source.max_chars)
    blocks = whole_lines(text_pieces(raw, lower, limits), limit)
    if ".csv" in lower[-8:]:
        yield from read_csv((line for block in blocks for line in block.each(limit)), name, source, limit)
    else:
        yield from read_jsonl(blocks, source, limit)


def read_csv(lines: Iterator[Lines], name: str, source: Source, limit: int) -> Rows:
    """Read comma-separated values as RFC 4180 has them; the first record names the columns."""
    # The csv module's limit is the process's; ours is on the whole record, and has already been applied.
    csv.field_size_limit(limit)
    records = _CsvRecords(lines, limit)
    header: list[str] | None = None
    at = 0, 0
    try:
        for place, fields in records:
            if header is None:
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

    def __init__(self, lines: Iterator[Lines], limit: int) -> None:
        self.number = 0
        self._lines, self._limit = lines, limit
        self._again: deque[Lines] = deque()
        self._held: list[Lines] = []
        self._fault: Refusal | None = None
        # The last of the lines that a bad record took with it.
        self._taken = 0
        self._width: int | None = None
        self._broken: UnreadableError | None = None

    def __iter__(self) -> Iterator[tuple[str, list[str] | Refusal]]:
        while (first := self._next()) is not None:
            if not first.is_blank:
                yield from self._record(first)
        if self._broken is not None:
            raise self._broken

    def _record(self, first: Lines) -> Iterator[tuple[str, list[str] | Refusal]]:
        self._held, self._fault = [first], None
        try:
            fields = next(csv.reader(self._texts(), strict=True))
        except (csv.Error, StopIteration):
            yield f"line {first.number}", self._refused(first)
            return
        if self._width not in (None, len(fields)):
            # Its quotes match, so its lines are one text and must not be read as rows; each is refused, and counted.
            for line in self._held:
                yield f"line {line.number}", Refusal(f"line {line.number}", Reason.LINE_NOT_CSV)
            return
        if self._fault is None:
            self._width = len(fields)
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
        self._again.extendleft(reversed(self._held[1:]))
        size = sum(self._limit if line.data is None else len(line.data) + 1 for line in self._held)
        text = decoded(first)
        if isinstance(text, Refusal):
            return text
        reason = Reason.LINE_TOO_LONG if size > self._limit else Reason.LINE_NOT_CSV
        return Refusal(f"line {first.number}", reason)

    def _next(self) -> Lines | None:
        if self._again:
            return self._again.popleft()
        try:
            line = next(self._lines, None)
        except UnreadableError as error:
            self._broken = error
            return None
        if line is not None:
            self.number = line.number
        return line


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
