"""Files of rows, and how they are read; random ones, in all ways in which parsers or Unicode versions differ."""

import csv
import io
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from llambert_etl.config import FileSource
from llambert_etl.sources.columns import Columns, Row
from llambert_etl.sources.drop import Rows
from llambert_etl.sources.readers import read_rows
from llambert_etl.sources.records import Limits, Record, Refusal

File = tuple[str, bytes]
MAX_CHARS = 40

texts = st.one_of(
    st.sampled_from(["", " ", "\u200b\ufeff", "fine", "cafe\u0301", "café", "\u0958" * 21, "a\0b", "\u0301", "\u00ad"]),
    st.sampled_from(
        ["x" * 40, "x" * 41, "\U00016d63\U00016d67", "\U00011382\U000113c9", "\u0897\u0301a", "\U0001e030"]
    ),
    st.text(max_size=12),
    st.text("ab \u0301\u0316\u1100\u1161\u11a8\u00a0\u3000", max_size=45),
)
keys = st.one_of(st.sampled_from(["a", "b", "1", " ", "x" * 1_024, "x" * 1_025, "a\0", "\ufeff", "\u3000"]), texts)
integers = st.one_of(st.integers(-3, 3), st.sampled_from([2**63 - 1, 2**63, 2**64, -(2**63), 10**30]))
values = st.one_of(keys, integers, st.floats(), st.none(), st.booleans(), st.just(["a"]), st.just("half \ud800"))
beside = st.one_of(values, st.just({"id": 1, "text": [{}]}), st.lists(integers, max_size=3))
objects = st.one_of(
    st.fixed_dictionaries({"id": keys, "text": texts}, optional={"more": beside}),
    st.fixed_dictionaries({"id": integers, "text": texts}),
    st.fixed_dictionaries({}, optional={"more": beside, "id": values, "text": values}),
)
written = st.builds(json.dumps, objects, ensure_ascii=st.booleans(), separators=st.sampled_from([None, (",", ":")]))
sound = written.map(lambda line: line.encode(errors="surrogatepass"))
ODD = tuple(
    line.encode()
    for line in (
        '{"id": "a", "text": "x", "id": "b"}',
        '{"id": "a", "text": "x", "\\u0069d": "b"}',
        '{"id": "a", "text": "x"}{"id": "b", "text": "y"}',
        '{"id": "a",',
        '"text": "x"}',
        '{"id": "a", "text": "x", "z": Inf}',
        '{"id": "a", "text": "x", "z": [-NaN]}',
        '{"id": "a", "text": "x", "z": NaN, "y": -Infinity}',
        '{"id": 007, "text": "x"}',
        '{"id": -0, "text": "x"}',
        '{"id": 1.0, "text": "x"}',
        '{"id": 1e2, "text": "x"}',
        '{"id": "a", "text": "x", "z": 1e999}',
        '{"id": "a", "text": "\\ud83d\\ude00 \\u0000 \\/"}',
        '{"id": "a", "text": "\\udc00"}',
        '{"id": "a", "text": "x", "z": "\\ud800"}',
        '{"id": "a", "text": "x",}',
        '{"id": "a", "text": "x"} ',
        ' {"id": "a", "text": "x"}',
        '{"id": "a", "text": "x"}\r',
        '{"id": "a",\r"text": "x"}',
        '{"id": "a", "text": "x"}}',
        '\ufeff{"id": "a", "text": "x"}',
        "",
        "  \t",
        "{}",
        "[]",
        "7",
        "null",
        '{"id": "a", "text": "x", "z": ' + "9" * 5_000 + "}",
        '{"id": ' + "9" * 5_000 + ', "text": "x"}',
        '{"id": "a", "text": "a' + "\u0958" * 21 + '"}',
        '{"id": "a", "text": "x", "z": ' + "[" * 3_000 + "]" * 3_000 + "}",
        '{"id": "a", "text": "x", "z": ' + '{"z":' * 3_000 + "1" + "}" * 3_000 + "}",
    )
) + (
    b'{"id": "a", "text": "x", "z": "caf\xe9"}',
    b'{"id": "a", "text": "x", "z": "\xed\xa0\x80"}',
    # Three lines and three objects, and not one in each.
    b'{"id": "a", "text": "x"}{"id": "b", "text": "y"}\n{"id": "c",\n"text": "z"}',
)

SOURCE = FileSource(uri="s3://landing/{partition}/*", id="id", text="text")


@st.composite
def broken(draw: Callable[..., Any]) -> bytes:
    """A line that was sound but for a few bytes."""
    line, at = draw(sound), draw(st.integers(0, 60))
    return bytes(
        line[:at] + draw(st.sampled_from(list(b'{}[],:"\\\r\n \t\0\x1f0-1eE.NIud\xff\xe9\xed'))).to_bytes() + line[at:]
    )


@st.composite
def jsonl_files(draw: Callable[..., Any]) -> File:
    lines = draw(st.lists(st.one_of(sound, sound, st.sampled_from(ODD), broken()), max_size=6))
    # Beyond a few kilobytes, lines are halved before they are looked at one by one.
    filler = b'{"id": "filler", "text": "' + b"f" * 30 + b'"}'
    before, between = draw(st.sampled_from([0, 0, 1, 300])), draw(st.sampled_from([0, 0, 0, 150]))
    held = [filler] * before + [each for line in lines for each in (line, *[filler] * between)]
    end = draw(st.sampled_from([b"\n", b"\n", b"\r\n"]))
    start = draw(st.sampled_from([b"", b"", b"\xef\xbb\xbf"]))
    return "a.jsonl", start + end.join(held) + draw(st.sampled_from([b"", end]))


@st.composite
def csv_files(draw: Callable[..., Any]) -> File:
    sink = io.StringIO(newline="")
    rows = draw(st.lists(st.tuples(keys, texts), max_size=8))
    csv.writer(sink, lineterminator="\n").writerows([("id", "text"), *rows])
    return "a.csv", sink.getvalue().replace("\r", " ").encode()


@st.composite
def parquet_files(draw: Callable[..., Any]) -> File:
    kinds = {
        pa.string(): keys,
        pa.large_string(): keys,
        pa.string_view(): keys,
        pa.dictionary(pa.int32(), pa.string()): keys,
        pa.json_(): st.sampled_from(["{}", "1"]),
        pa.null(): st.none(),
        pa.uint64(): st.sampled_from([0, 7, 2**64 - 1]),
        pa.int8(): st.integers(-3, 3),
        pa.decimal128(38, 0): st.integers(-3, 3).map(Decimal),
        pa.uuid(): st.integers(0, 3).map(lambda number: UUID(int=number << 90 | 7).bytes),
    }
    id_kind, text_kind = draw(st.sampled_from(list(kinds))), draw(st.sampled_from(list(kinds)[:4]))
    rows = draw(st.lists(st.tuples(kinds[id_kind], texts), max_size=40))
    ids, found = [key for key, _ in rows], [text for _, text in rows]
    nulls = draw(st.sampled_from([0, 0, 7]))
    columns = {
        name: pa.array([None if nulls and row % nulls == at else value for row, value in enumerate(given)], kind)
        for at, (name, given, kind) in enumerate((("id", ids, id_kind), ("text", found, text_kind)))
    }
    sink = io.BytesIO()
    options = draw(
        st.sampled_from([{}, {"use_dictionary": False}, {"data_page_version": "2.0"}, {"row_group_size": 7}])
    )
    pq.write_table(pa.table(columns), sink, **options)
    return "a.parquet", sink.getvalue()


def one_by_one(found: Rows) -> list[Row]:
    """Return the rows that a reader yields, those in columns too, as they are read where columns do not do."""
    return [row for each in found for row in (each.rows() if isinstance(each, Columns) else [each])]


def read(
    name: str, content: bytes, limits: Limits | None = None, source: FileSource = SOURCE
) -> list[Record | Refusal]:
    return one_by_one(read_rows(io.BytesIO(content), name, len(content), source, limits or Limits()))  # type: ignore[arg-type]


def ids(rows: list[Record | Refusal]) -> list[object]:
    return [row.id for row in rows if isinstance(row, Record)]
