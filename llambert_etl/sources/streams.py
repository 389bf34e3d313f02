"""Bytes in bounded pieces: decompression that cannot be made to swell, and lines that cannot be made to grow."""

import io
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import zstandard

from llambert_etl.sources.records import Limits, Reason, UnreadableError

PIECE = 256 * 1024
# One zstd block of 4 bytes may unpack to 128 KiB, and its object interface has no bound on output: 512 bytes in
# give at most 16 MiB out.
_ZSTD_INPUT = 512
_ZSTD_WINDOW = 1 << 27

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
# Files that people upload by mistake under a text file's name.
_BINARY = (_GZIP, _ZSTD, b"\x89PNG", b"\xff\xd8\xff", b"PK\x03\x04", b"%PDF-", b"PAR1", b"BZh", b"\xfd7zXZ", b"\x7fELF")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class Line(NamedTuple):
    """One line without its end. `data` is None when it was longer than the limit and thrown away unread."""

    number: int
    offset: int
    data: bytes | None


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


def split_lines(pieces: Iterable[bytes], limit: int) -> Iterator[Line]:
    """Cut at newlines. A line longer than `limit` bytes costs no more memory than `limit`."""
    number, offset, size = 1, 0, 0
    held: list[bytes] = []
    for piece in pieces:
        *complete, rest = piece.split(b"\n")
        for part in complete:
            size += len(part)
            yield Line(number, offset, b"".join((*held, part)) if size <= limit else None)
            number, offset, size = number + 1, offset + size + 1, 0
            held.clear()
        size += len(rest)
        if size > limit:
            held.clear()
        else:
            held.append(rest)
    if size:
        yield Line(number, offset, b"".join(held) if size <= limit else None)


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
        if not started and not _ZSTD.startswith(piece[:4]):
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
