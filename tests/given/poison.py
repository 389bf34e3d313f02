"""Files that a hostile or careless producer might drop, and what must become of each."""

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from llambert_etl.sources.records import Reason

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4


def jsonl(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def reviews(count: int, start: int = 0) -> list[dict[str, object]]:
    return [{"id": f"r{number}", "text": f"review number {number}"} for number in range(start, start + count)]


def parquet(**columns: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


@dataclass(frozen=True)
class Poison:
    """A file, how many of its rows are accepted, and the reasons and places of the rest, in order."""

    name: str
    content: Callable[[], bytes]
    accepted: int
    refused: tuple[tuple[Reason, str], ...]


def _good(middle: bytes) -> bytes:
    return jsonl(*reviews(2)) + middle + jsonl(*reviews(2, start=2))


def _text(value: object) -> bytes:
    return jsonl({"id": "bad", "text": value})


def gzip_bomb(mebibytes: int) -> bytes:
    engine = zlib.compressobj(9, wbits=31)
    zeros = bytes(1 << 20)
    return jsonl_gz_head() + b"".join(engine.compress(zeros) for _ in range(mebibytes)) + engine.flush()


def jsonl_gz_head() -> bytes:
    return gzip.compress(jsonl(*reviews(2)))


def zstd_bomb(mebibytes: int) -> bytes:
    engine = zstandard.ZstdCompressor(level=3).compressobj()
    zeros = bytes(1 << 20)
    packed = b"".join(engine.compress(zeros) for _ in range(mebibytes)) + engine.flush()
    return zstandard.compress(jsonl(*reviews(2))) + packed


def long_line(mebibytes: int) -> Iterator[bytes]:
    """One line, made as it is read."""
    yield b'{"id": "huge", "text": "'
    for _ in range(mebibytes):
        yield b"x" * (1 << 20)
    yield b'"}\n'


LINES: tuple[Poison, ...] = tuple(
    Poison(name, lambda middle=middle: _good(middle), 4, ((reason, place),))
    for name, middle, reason, place in (
        ("text_empty", _text(""), Reason.TEXT_BLANK, "line 3"),
        ("text_blank", _text(" \t\u00a0\u3000"), Reason.TEXT_BLANK, "line 3"),
        ("text_invisible", _text("\u200b\u200d\ufeff"), Reason.TEXT_BLANK, "line 3"),
        ("text_missing", jsonl({"id": "bad"}), Reason.TEXT_MISSING, "line 3"),
        ("text_null", _text(None), Reason.TEXT_NOT_TEXT, "line 3"),
        ("text_number", _text(7), Reason.TEXT_NOT_TEXT, "line 3"),
        ("text_nan", _text(float("nan")), Reason.TEXT_NOT_TEXT, "line 3"),
        ("text_list", _text(["good"]), Reason.TEXT_NOT_TEXT, "line 3"),
        ("text_too_long", _text("x" * 100_001), Reason.TEXT_TOO_LONG, "line 3"),
        ("text_surrogate", b'{"id": "bad", "text": "half \\ud83d"}\n', Reason.TEXT_NOT_UNICODE, "line 3"),
        ("text_nul", b'{"id": "bad", "text": "a\\u0000b"}\n', Reason.TEXT_NUL, "line 3"),
        ("text_marks", _text("a" + "\u0301\u0316" * 20_000), Reason.TEXT_MARK_RUN, "line 3"),
        ("id_missing", jsonl({"text": "fine"}), Reason.ID_MISSING, "line 3"),
        ("id_null", jsonl({"id": None, "text": "fine"}), Reason.ID_NOT_TEXT, "line 3"),
        ("id_float", jsonl({"id": 1.5, "text": "fine"}), Reason.ID_NOT_TEXT, "line 3"),
        ("id_bool", jsonl({"id": True, "text": "fine"}), Reason.ID_NOT_TEXT, "line 3"),
        ("id_blank", jsonl({"id": " ", "text": "fine"}), Reason.ID_BLANK, "line 3"),
        ("id_too_long", jsonl({"id": "x" * 10_000, "text": "fine"}), Reason.ID_TOO_LONG, "line 3"),
        ("id_nul", jsonl({"id": "a\0b", "text": "fine"}), Reason.ID_NUL, "line 3"),
        ("id_surrogate", b'{"id": "\\udc00", "text": "fine"}\n', Reason.ID_NOT_UNICODE, "line 3"),
        ("not_json", b"id=7, text=fine\n", Reason.LINE_NOT_JSON, "line 3"),
        ("raw_nul", b'{"id": "bad", "text": "a\0b"}\n', Reason.LINE_NOT_JSON, "line 3"),
        ("not_object", b'["id", "text"]\n', Reason.LINE_NOT_OBJECT, "line 3"),
        ("twice", b'{"id": "bad", "text": "fine", "text": "fine too"}\n', Reason.LINE_AMBIGUOUS, "line 3"),
        ("deep", b'{"id": "bad", "text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", Reason.LINE_TOO_DEEP, "line 3"),
        ("huge_number", b'{"id": ' + b"9" * 5_000 + b', "text": "fine"}\n', Reason.LINE_NOT_JSON, "line 3"),
        ("not_utf8", b'{"id": "bad", "text": "caf\xe9"}\n', Reason.LINE_NOT_UTF8, "byte 106"),
        ("same_text", jsonl(reviews(1)[0]), Reason.DUPLICATE, "line 3"),
        ("other_text", jsonl({"id": "r0", "text": "another"}), Reason.ID_CONFLICT, "line 3"),
        ("line_too_long", _text("x" * (17 << 20)), Reason.LINE_TOO_LONG, "line 3"),
    )
)

_GZ = gzip.compress(jsonl(*reviews(3)))
_MORE = gzip.compress(jsonl(*reviews(3, start=2)))

FILES: tuple[Poison, ...] = (
    Poison("a.jsonl", lambda: PNG, 0, ((Reason.FILE_WRONG_KIND, "line 1"),)),
    Poison("a.jsonl", lambda: _GZ, 0, ((Reason.FILE_WRONG_KIND, "line 1"),)),
    Poison("a.csv", lambda: PNG, 0, ((Reason.FILE_WRONG_KIND, "line 1"),)),
    Poison("a.jsonl.gz", lambda: jsonl(*reviews(2)), 0, ((Reason.FILE_WRONG_KIND, "line 1"),)),
    Poison("a.jsonl.zst", lambda: jsonl(*reviews(2)), 0, ((Reason.FILE_WRONG_KIND, "line 1"),)),
    Poison("a.jsonl.gz", lambda: gzip.compress(PNG), 0, ((Reason.FILE_WRONG_KIND, "line 1"),)),
    Poison("a.parquet", lambda: PNG, 0, ((Reason.FILE_WRONG_KIND, "row 1"),)),
    Poison("a.parquet", lambda: b"", 0, ((Reason.FILE_WRONG_KIND, "row 1"),)),
    Poison("a.exe", lambda: jsonl(*reviews(2)), 0, ((Reason.FILE_WRONG_KIND, "line 1"),)),
    Poison("a.jsonl", lambda: jsonl(*reviews(2)).decode().encode("utf-16"), 0, ((Reason.FILE_WRONG_KIND, "line 1"),)),
    Poison(
        "a.jsonl", lambda: jsonl(*reviews(2)).decode().encode("utf-16-le"), 0, ((Reason.FILE_WRONG_KIND, "line 1"),)
    ),
    Poison("a.jsonl.gz", lambda: jsonl_gz_head() + _MORE[:-9], 5, ((Reason.FILE_TRUNCATED, "line 6"),)),
    Poison("a.jsonl.gz", lambda: jsonl_gz_head() + _MORE[:-8] + b"\xff" * 8, 2, ((Reason.FILE_CORRUPT, "line 3"),)),
    Poison(
        "a.jsonl.zst",
        lambda: zstandard.compress(jsonl(*reviews(2))) + zstandard.compress(jsonl(*reviews(2, 2)))[:-4],
        2,
        ((Reason.FILE_TRUNCATED, "line 3"),),
    ),
    Poison("a.csv", lambda: b"id,text\n1,fine\n2\n3,also fine\n", 2, ((Reason.LINE_NOT_CSV, "line 3"),)),
    Poison("a.csv", lambda: b'id,text\n1,fine\n2,"never closed\n3,fine\n', 2, ((Reason.LINE_NOT_CSV, "line 3"),)),
    Poison("a.csv", lambda: b"id,text\n1,caf\xe9\n2,fine\n", 1, ((Reason.LINE_NOT_UTF8, "byte 13"),)),
)
