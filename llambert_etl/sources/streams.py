"""Bytes in bounded pieces: decompression that cannot be made to swell, and lines that cannot be made to grow."""

import io
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import zstandard

from llambert_etl.sources.records import Limits, Reason, Refusal, UnreadableError

PIECE = 256 * 1024
BOM = b"\xef\xbb\xbf"
# Lines that are parsed together: many, so that each costs little, and few, so that all of them cost little memory.
_TOGETHER = 4 << 20
# One zstd block of 4 bytes may unpack to 128 KiB, and its object interface has no bound on output: 512 bytes in
# give at most 16 MiB out.
_ZSTD_INPUT = 512
_ZSTD_WINDOW = 1 << 27

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
# A frame of something else, to be skipped: pzstd begins with one.
_SKIPPED = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
# Files that people upload by mistake under a text file's name.
_BINARY = (_GZIP, _ZSTD, b"\x89PNG", b"\xff\xd8\xff", b"PK\x03\x04", b"%PDF-", b"PAR1", b"BZh", b"\xfd7zXZ", b"\x7fELF")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class Lines(NamedTuple):
    """Lines in a row, each with its end. `data` is None where it is one that was too long, and thrown away unread."""

    number: int
    offset: int
    data: bytes | None

    def each(self, limit: int) -> "Iterator[Lines]":
        """Yield the lines one by one, without their ends; one that is longer than `limit` bytes without its data."""
        if self.data is None:
            yield self
            return
        offset = self.offset
        for number, line in enumerate(self.data.removesuffix(b"\n").split(b"\n"), self.number):
            yield Lines(number, offset, line if len(line) <= limit else None)
            offset += len(line) + 1

    @property
    def is_blank(self) -> bool:
        """Tell whether this is a line of spaces; a byte order mark is none of it."""
        return self.data is not None and not self.data.removeprefix(BOM if self.number == 1 else b"").strip()

    def behind(self) -> "Lines":
        """Return where those begin that come behind them."""
        data = self.data or b""
        return Lines(self.number + data.count(b"\n"), self.offset + len(data), None)

    def after(self, lines: int) -> "Lines | None":
        """Return what is behind so many of the lines; None where that is nothing."""
        data = self.data or b""
        left = data.split(b"\n", lines)[lines:]
        if not (left and left[0]):
            return None
        return Lines(self.number + lines, self.offset + len(data) - len(left[0]), left[0])

    def cut(self, size: int) -> "tuple[Lines, Lines | None]":
        """Return the lines that begin in the first `size` bytes, and the others; None where there are none."""
        data = self.data or b""
        end = data.find(b"\n", max(size - 1, 0)) + 1
        if end in (0, len(data)):
            return self, None
        first = self._replace(data=data[:end])
        return first, first.behind()._replace(data=data[end:])

    def halves(self) -> "tuple[Lines, Lines] | None":
        """Return two parts of about the same size; None where this is one line."""
        data = self.data or b""
        middle = len(data) // 2
        cut = data.find(b"\n", middle) + 1
        if cut in (0, len(data)):
            cut = data.rfind(b"\n", 0, middle) + 1
        first = self._replace(data=data[:cut])
        return (first, first.behind()._replace(data=data[cut:])) if cut else None


def text_pieces(raw: io.RawIOBase, name: str, limits: Limits) -> Iterator[bytes]:
    """Yield the decompressed content of a text file, by the compression that its name tells.

    Raise UnreadableError where the file is no text, broken, or unpacks beyond `limits`.
    """
    packed = 0

    def counted() -> Iterator[bytes]:
        nonlocal packed
        while piece := raw.read(PIECE):
            packed += len(piece)
            yield piece

    pieces: Iterator[bytes] = counted()
    if name.endswith(".gz"):
        pieces = _gunzip(pieces)
    elif name.endswith(".zst"):
        pieces = _unzstd(pieces)
    unpacked = 0
    for piece in pieces:
        if not unpacked:
            _check_text(piece)
        unpacked += len(piece)
        limits.check_unpacked(packed, unpacked)
        yield piece


def whole_lines(pieces: Iterable[bytes], limit: int) -> Iterator[Lines]:
    """Yield lines, many at a time. One that is longer than `limit` bytes costs no more memory than `limit`.

    Where a piece cannot be read, the lines before it come before the error.
    """
    start, whole, rest, lost = Lines(1, 0, None), list[bytes](), list[bytes](), 0
    try:
        for piece in pieces:
            end = piece.rfind(b"\n") + 1
            if lost and end:
                first = piece.find(b"\n") + 1
                yield start
                start, lost = Lines(start.number + 1, start.offset + lost + first, None), 0
                whole, rest = [piece[first:end]], [piece[end:]]
            elif lost:
                lost += len(piece)
            elif end:
                whole, rest = [*whole, *rest, piece[:end]], [piece[end:]]
            else:
                rest.append(piece)
            too_long = _size(rest) > limit
            if too_long or _size(whole) >= _TOGETHER:
                lines = start._replace(data=b"".join(whole))
                yield from _any(lines)
                start, whole = lines.behind(), []
            if too_long:
                lost, rest = _size(rest), []
    except UnreadableError:
        yield from _any(start._replace(data=b"".join(whole)))
        raise
    yield from [start] if lost else _any(start._replace(data=b"".join([*whole, *rest])))


def _size(parts: list[bytes]) -> int:
    return sum(map(len, parts))


def _any(lines: Lines) -> list[Lines]:
    return [lines] if lines.data else []


def decoded(line: Lines) -> str | Refusal:
    """Return the text of one line; a byte order mark is none of it."""
    if line.data is None:
        return Refusal(f"line {line.number}", Reason.LINE_TOO_LONG)
    try:
        text = line.data.decode()
    except UnicodeDecodeError as error:
        return Refusal(f"byte {line.offset + error.start}", Reason.LINE_NOT_UTF8)
    return text.removeprefix(BOM.decode()) if line.number == 1 else text


def _check_text(head: bytes) -> None:
    # Every other byte of Latin text in UTF-16 is NUL; one stray NUL is a bad line, not a bad file.
    if head.startswith((*_BINARY, *_UTF16)) or head[:4096].count(0) > len(head[:4096]) // 4:
        raise UnreadableError(Reason.FILE_WRONG_KIND)


def _gunzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    member = None
    started = False
    for piece in pieces:
        data = piece
        if not started and not _GZIP.startswith(data[:2]):
            raise UnreadableError(Reason.FILE_WRONG_KIND)
        started = True
        while data:
            member = member or zlib.decompressobj(wbits=31)
            try:
                unpacked = member.decompress(data, PIECE)
            except zlib.error as error:
                raise UnreadableError(Reason.FILE_CORRUPT) from error
            if unpacked:
                yield unpacked
            # Members may follow each other, and tar-like tools pad the last one with zeros.
            data = member.unused_data.lstrip(b"\0") if member.eof else member.unconsumed_tail
            member = None if member.eof else member
    # Packed, nothing is some bytes too: none at all are a writer that never began, and no day without documents.
    if member is not None or not started:
        raise UnreadableError(Reason.FILE_TRUNCATED)


def _unzstd(pieces: Iterator[bytes]) -> Iterator[bytes]:
    reader = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    frame = None
    started = False
    for piece in pieces:
        if not started and not (_ZSTD.startswith(piece[:4]) or _SKIPPED.match(piece)):
            raise UnreadableError(Reason.FILE_WRONG_KIND)
        started = True
        for start in range(0, len(piece), _ZSTD_INPUT):
            data = piece[start : start + _ZSTD_INPUT]
            while data:
                frame = frame or reader.decompressobj()
                try:
                    unpacked = frame.decompress(data)
                except zstandard.ZstdError as error:
                    raise UnreadableError(Reason.FILE_CORRUPT) from error
                yield from (unpacked[at : at + PIECE] for at in range(0, len(unpacked), PIECE))
                data = frame.unused_data if frame.eof else b""
                frame = None if frame.eof else frame
    if frame is not None or not started:
        raise UnreadableError(Reason.FILE_TRUNCATED)
