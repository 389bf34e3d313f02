"""The rules of ingest once more, as plainly as Python says them: one row after the other, all of a file in memory."""

import csv
import hashlib
import io
import json
import unicodedata
from collections.abc import Iterator
from decimal import Decimal
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

Verdict = tuple[str, str | None, str | None, str | None]
ABSENT = object()
_NO_OBJECT = ("line_not_json", "line_not_object", "line_not_utf8", "line_too_long")


def verdicts(files: list[tuple[str, bytes]], max_chars: int) -> Iterator[Verdict]:
    """Yield place, id, hash of the text and reason of each row. CSV and Parquet are sound but for their values."""
    seen: dict[str, str] = {}
    for name, content in files:
        read = {"jsonl": _of_jsonl, "csv": _of_csv, "parquet": _of_parquet}[name.rpartition(".")[2]]
        for place, *row in read(content):
            if len(row) == 1:
                yield place, None, None, str(row[0])
                continue
            fault, key = _id(row[0])
            other, text = _text(row[1], max_chars)
            digest = None if text is None else hashlib.sha256(text.encode()).hexdigest()
            reason = fault or other
            if not reason and key in seen:
                reason = "duplicate" if seen[key] == digest else "id_conflict"
            elif not reason:
                seen[str(key)] = str(digest)
            yield place, key, digest, reason


def _id(value: object) -> tuple[str | None, str | None]:
    if value is ABSENT:
        return "id_missing", None
    if isinstance(value, bool) or not isinstance(value, str | int | UUID | Decimal):
        return "id_not_text", None
    key = str(value)
    faults = {
        "id_blank": not key.strip(),
        "id_too_long": len(key) > 1_024,
        "id_not_unicode": _half(key),
        "id_nul": "\0" in key,
    }
    fault = next((fault for fault, found in faults.items() if found), None)
    return fault, None if fault else key


def _text(value: object, max_chars: int) -> tuple[str | None, str | None]:
    if value is ABSENT:
        return "text_missing", None
    if not isinstance(value, str):
        return "text_not_text", None
    faults = {
        "text_too_long": len(value) > max_chars,
        "text_not_unicode": _half(value),
        "text_nul": "\0" in value,
        "text_blank": all(each.isspace() or unicodedata.category(each)[0] in "CZ" for each in value),
    }
    if fault := next((fault for fault, found in faults.items() if found), None):
        return fault, None
    text = unicodedata.normalize("NFC", value)
    return ("text_too_long", None) if len(text) > max_chars else (None, text)


def _half(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _of_jsonl(content: bytes) -> Iterator[tuple[object, ...]]:
    rows = list(_lines_of(content))
    if rows and all(row[1] in _NO_OBJECT for row in rows):
        rows[0] = rows[0][0], "file_wrong_kind"
    yield from rows


def _lines_of(content: bytes) -> Iterator[tuple[object, ...]]:
    offset = 0
    for number, line in enumerate(content.split(b"\n"), 1):
        if (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).strip():
            yield _of_line(line, number, offset)
        offset += len(line) + 1


def _of_line(line: bytes, number: int, offset: int) -> tuple[object, ...]:
    place = f"line {number}"
    try:
        text = line.decode()
        pairs = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=tuple)
    except UnicodeDecodeError as error:
        return f"byte {offset + error.start}", "line_not_utf8"
    except RecursionError:
        return place, "line_too_deep"
    except ValueError:
        return place, "line_not_json"
    if not isinstance(pairs, tuple):
        return place, "line_not_object"
    names = [name for name, _ in pairs]
    if names.count("id") > 1 or names.count("text") > 1:
        return place, "line_ambiguous"
    value = dict(pairs)
    return place, value.get("id", ABSENT), value.get("text", ABSENT)


def _of_csv(content: bytes) -> Iterator[tuple[object, ...]]:
    reader = csv.DictReader(io.StringIO(content.decode(), newline=""))
    assert reader.fieldnames
    before = reader.line_num
    for row in reader:
        yield f"line {before + 1}", row["id"], row["text"]
        before = reader.line_num


def _of_parquet(content: bytes) -> Iterator[tuple[object, ...]]:
    rows = pq.read_table(pa.BufferReader(content)).to_pylist()
    yield from ((f"row {number}", row["id"], row["text"]) for number, row in enumerate(rows, 1))
