"""Every format is read row by row; whatever is wrong becomes a refusal with its place."""

import gzip
import io
import json
from collections.abc import Callable, Iterator

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from llambert_etl.errors import DataError, TransientError
from llambert_etl.sources.clean import Cleaned, clean
from llambert_etl.sources.readers import read_rows
from llambert_etl.sources.records import Limits, Reason, Record, Refusal
from tests.given.poison import gzip_bomb, jsonl, long_line, parquet, reviews, zstd_bomb
from tests.given.rows import SOURCE, ids, one_by_one, read

MIB = 1 << 20
PLAIN = jsonl(*reviews(3))
CSV = b"id,text\n" + b"".join(f'{row["id"]},"{row["text"]}"\n'.encode() for row in reviews(3))
MARK = b"\xef\xbb\xbf"
CSV_OF_OTHER_ORDER = b"extra,text,id\n" + b"".join(f"x,{row['text']},{row['id']}\n".encode() for row in reviews(3))
PARQUET = parquet(id=["r0", "r1", "r2"], text=[row["text"] for row in reviews(3)], extra=[1, 2, 3])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("a.jsonl", PLAIN, id="lines"),
        pytest.param("A.JSONL", PLAIN, id="capitals"),
        pytest.param("a.jsonl", PLAIN.rstrip(b"\n"), id="no last newline"),
        pytest.param("a.jsonl", PLAIN.replace(b"\n", b"\r\n"), id="carriage returns"),
        pytest.param("a.jsonl", b"\xef\xbb\xbf" + PLAIN, id="byte order mark"),
        pytest.param("a.jsonl", PLAIN.replace(b"\n", b"\n\n  \n"), id="blank lines"),
        pytest.param("a.jsonl.gz", gzip.compress(PLAIN), id="gzip"),
        pytest.param("a.jsonl.gz", b"".join(gzip.compress(jsonl(row)) for row in reviews(3)), id="gzip members"),
        pytest.param("a.jsonl.gz", gzip.compress(PLAIN) + bytes(512), id="gzip padding"),
        pytest.param(
            "a.jsonl.gz", b"".join(gzip.compress(MARK + jsonl(row)) for row in reviews(3)), id="files that were joined"
        ),
        pytest.param("a.jsonl.zst", zstandard.compress(PLAIN), id="zstd"),
        pytest.param("a.jsonl.zst", b"".join(zstandard.compress(jsonl(row)) for row in reviews(3)), id="zstd frames"),
        # A skippable frame, with the size of the next one, stands before each: of `pzstd`.
        pytest.param("a.jsonl.zst", b"P*M\x18\x04\0\0\0#\0\0\0" + zstandard.compress(PLAIN), id="parallel zstd"),
        pytest.param("a.ndjson.zst", zstandard.compress(PLAIN), id="the same by another name"),
        pytest.param("a.csv", CSV, id="csv"),
        pytest.param("a.csv", b"\xef\xbb\xbf" + CSV, id="csv byte order mark"),
        pytest.param("a.csv", CSV.replace(b"\n", b"\r\n"), id="csv carriage returns"),
        pytest.param("a.csv", CSV_OF_OTHER_ORDER, id="csv columns"),
        pytest.param("a.csv.gz", gzip.compress(CSV), id="csv gzip"),
        pytest.param("a.parquet", PARQUET, id="parquet"),
    ],
)
def test_every_format_gives_the_same_records(name: str, content: bytes) -> None:
    rows = read(name, content)
    assert len(rows) == 3
    assert ids(rows) == ["r0", "r1", "r2"]
    assert [row.text for row in rows if isinstance(row, Record)] == [row["text"] for row in reviews(3)]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(PLAIN.replace(b"\n", b"\r"), id="lines of an old Mac"),
        pytest.param(jsonl(reviews(3)), id="an array"),
        pytest.param(json.dumps(reviews(3), indent=1).encode(), id="an array over many lines"),
        pytest.param(PLAIN.replace(b"\n", b""), id="no newlines"),
        pytest.param(PLAIN.replace(b"\n", b",\n"), id="commas"),
        pytest.param(b"<html>\n<h1>503 Slow Down</h1>\n</html>\n", id="an error's page"),
        pytest.param(jsonl({"id": "a", "text": "r"}).replace(b"r", b"\xe9"), id="latin-1"),
        pytest.param(f'{{"id": "a", "text": "{"中" * 6_000}"}}\n'.encode("utf-16-le"), id="utf-16 without its mark"),
        pytest.param(jsonl({"id": "a", "text": "x" * (17 << 20)}), id="one line without end"),
        pytest.param(b"no json\n" * 1_000 + PLAIN, id="a thousand lines before the first object"),
    ],
)
def test_a_file_of_which_no_line_is_an_object_is_no_file_of_json_lines(content: bytes) -> None:
    rows = read("a.jsonl", content)
    refused = [row.reason for row in rows if isinstance(row, Refusal)]
    assert refused[0] == Reason.FILE_WRONG_KIND
    assert refused.count(Reason.FILE_WRONG_KIND) == 1
    assert len(rows) == sum(1 for line in content.split(b"\n") if line.strip())


@pytest.mark.parametrize("begins", ["[\n", "[ ", "\ufeff[\r\n", " [\t{}, \n"])
def test_an_array_over_lines_is_no_file_of_json_lines_though_its_last_object_could_be_one(begins: str) -> None:
    rows = read("a.jsonl", (begins + ",\n".join(map(json.dumps, reviews(3))) + "\n]\n").encode())
    refused = [row.reason for row in rows if isinstance(row, Refusal)]
    assert ids(rows) == ["r2"]
    assert (refused[0], {*refused[1:]}) == (Reason.FILE_WRONG_KIND, {Reason.LINE_NOT_JSON})


@pytest.mark.parametrize(
    "content", [b"no json\n" * 999 + PLAIN, b"no json\n{}\n", b'["a"]\n{"id": 1, "id": 2}\n', b"[info] begun,\n{}\n"]
)
def test_a_file_with_an_object_among_its_first_lines_loses_those_that_are_none_alone(content: bytes) -> None:
    assert Reason.FILE_WRONG_KIND not in {row.reason for row in read("a.jsonl", content) if isinstance(row, Refusal)}


@pytest.mark.parametrize("content", [b"", b"\n \r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"])
def test_an_empty_text_file_has_no_rows(content: bytes) -> None:
    """Windows begins some with a byte order mark."""
    assert read("a.jsonl", content) == read("a.csv", content) == read("a.jsonl.gz", gzip.compress(content)) == []


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.zst"])
def test_a_packed_file_of_no_bytes_was_cut_off(name: str) -> None:
    assert read(name, b"") == [Refusal("line 1", Reason.FILE_TRUNCATED)]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"review_id,text\n1,x\n", "column 'id' expected once, columns found ['review_id', 'text']"),
        ("a.csv", b"id,text,text\n1,x,y\n", "column 'text' expected once"),
        ("a.csv", b"id;text\n1;x\n", "is the header line missing, or its separator no comma?"),
        ("a.csv", b"id,text\r1,x\r2,y\r", "cannot be read (line 1: line_not_csv); write the file in UTF-8, with"),
        ("a.csv", b"id,text,caf\xe9\n1,x,y\n", "names the columns, cannot be read (byte 11: line_not_utf8)"),
        ("a.csv", b'id,"text\n1,x\n', "newline at the end of each line"),
        ("a.parquet", parquet(id=["a"], body=["x"]), "column 'text' expected once, columns found ['id', 'body']"),
        ("a.parquet", parquet(id=[1.5], text=["x"]), "column 'id' is double, expected a string, an integer, a decimal"),
        ("a.parquet", parquet(id=["a"], text=[7]), "column 'text' is int64, expected a string"),
        ("a.parquet", parquet(id=["a"], text=[b"x"]), "column 'text' is binary, expected a string"),
    ],
)
def test_a_changed_schema_names_file_column_and_what_was_found(name: str, content: bytes, said: str) -> None:
    with pytest.raises(DataError) as caught:
        read(name, content)
    assert said in str(caught.value)
    assert repr(name) in str(caught.value)


def test_integer_ids_are_read_from_parquet() -> None:
    assert ids(read("a.parquet", parquet(id=pa.array([1, 2], pa.uint64()), text=["x", "y"]))) == [1, 2]


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", pa.dictionary(pa.int8(), pa.string())])
def test_every_kind_of_string_is_read_from_parquet(kind: pa.DataType | str) -> None:
    rows = read("a.parquet", parquet(id=pa.array(["x", None]).cast(kind), text=pa.array(["y", None]).cast(kind)))
    assert rows == [Record("row 1", "x", "y"), Record("row 2", None, None)]


@pytest.mark.parametrize("rows", [0, 2])
def test_a_parquet_column_without_any_value_is_of_no_kind_and_breaks_no_schema(rows: int) -> None:
    content = parquet(id=pa.nulls(rows), text=pa.nulls(rows))
    assert read("a.parquet", content) == [Record(f"row {row}", None, None) for row in range(1, rows + 1)]


def test_a_parquet_row_that_is_no_utf8_is_refused_alone() -> None:
    texts = pa.array([b"fine", b"caf\xe9", b"fine too"], pa.binary()).view(pa.string())
    assert read("a.parquet", parquet(id=[1, 2, 3], text=texts)) == [
        Record("row 1", 1, "fine"),
        Refusal("row 2", Reason.LINE_NOT_UTF8),
        Record("row 3", 3, "fine too"),
    ]


@pytest.mark.parametrize(
    ("name", "bomb"), [("a.jsonl.gz", lambda: gzip_bomb(200)), ("a.jsonl.zst", lambda: zstd_bomb(200))]
)
def test_a_bomb_is_stopped_and_the_rows_before_it_are_kept(name: str, bomb: Callable[[], bytes]) -> None:
    rows = read(name, bomb())
    assert ids(rows) == ["r0", "r1"]
    assert rows[-1] == Refusal("line 3", Reason.FILE_BOMB)


def test_a_parquet_file_that_claims_to_unpack_beyond_reason_is_not_unpacked() -> None:
    sink, texts = io.BytesIO(), [f"{number}" + "x" * MIB for number in range(80)]
    pq.write_table(pa.table({"id": range(80), "text": texts}), sink, use_dictionary=False, compression="zstd")
    refused = [Refusal(f"row {number}", Reason.FILE_BOMB) for number in range(1, 81)]
    assert read("a.parquet", sink.getvalue()) == refused


@pytest.mark.parametrize("character", [b"x", "\U0001f600".encode(), b"\xff", b"\xf0\x9f\x98"])
def test_a_parquet_cell_of_any_length_is_refused_for_its_length_alone(character: bytes) -> None:
    texts = pa.array([character * 500_000, b"fine"], pa.binary()).view(pa.string())
    rows = read("a.parquet", parquet(id=[1, 2], text=texts))
    assert [clean(row, SOURCE.max_chars) for row in rows if isinstance(row, Record)] == [
        Cleaned("1", None, Reason.TEXT_TOO_LONG),
        Cleaned("2", "fine", None),
    ]
    assert max(len(str(row.text)) for row in rows if isinstance(row, Record)) <= 4 * SOURCE.max_chars + 4


def test_a_parquet_id_may_be_longer_than_a_text() -> None:
    source = SOURCE.model_copy(update={"max_chars": 10})
    content = parquet(id=["i" * 1_024, "i" * 5_000], text=["fine", "fine"])
    rows = [clean(row, 10) for row in read("a.parquet", content, source=source) if isinstance(row, Record)]
    assert rows == [Cleaned("i" * 1_024, "fine", None), Cleaned(None, "fine", Reason.ID_TOO_LONG)]


def test_the_decompressed_size_is_capped_whatever_the_ratio() -> None:
    assert read("a.jsonl", PLAIN, Limits(unpacked_bytes=10)) == [Refusal("line 1", Reason.FILE_BOMB)]


class Stream(io.RawIOBase):
    """Bytes that are made as they are read, and never all there."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._held, self.peak = pieces, b"", 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        self.peak = max(self.peak, psutil.Process().memory_info().rss)
        self._held = self._held or next(self._pieces, b"")
        data, self._held = self._held[:size], self._held[size:]
        return data


def test_a_line_of_200_mb_is_refused_without_memory_growing() -> None:
    def content() -> Iterator[bytes]:
        yield from iter([jsonl(*reviews(1))])
        yield from long_line(200)
        yield jsonl(*reviews(1, start=1))

    stream, before = Stream(content()), psutil.Process().memory_info().rss
    rows = one_by_one(read_rows(stream, "a.jsonl", 200 * MIB, SOURCE, Limits()))
    assert ids(rows) == ["r0", "r1"]
    assert rows[1] == Refusal("line 2", Reason.LINE_TOO_LONG)
    assert stream.peak - before < 60 * MIB


def test_a_store_that_fails_midway_is_no_corrupt_file() -> None:
    class Failing(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise TransientError("the store went away")

    for name in ("a.jsonl", "a.parquet"):
        with pytest.raises(TransientError):
            one_by_one(read_rows(Failing(parquet(id=["a"], text=["x"])), name, 400, SOURCE, Limits()))  # type: ignore[arg-type]
