"""Parquet as its writers differ: every encoding and kind of id is read, and damage costs the rows behind it alone."""

import datetime
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llambert_etl.errors import DataError
from llambert_etl.sources.clean import clean
from llambert_etl.sources.records import Reason, Record, Refusal
from tests.given.poison import parquet
from tests.given.rows import SOURCE
from tests.given.rows import read as read_file

ROWS = 60
IDS, TEXTS = [f"r{number}" for number in range(ROWS)], [f"review number {number}" for number in range(ROWS)]
KEY = UUID("0d9a4a3e-5df1-4dc0-8a3b-6d1a3b9b9d4c")

read = partial(read_file, "a.parquet")


def written(columns: dict[str, Any] | None = None, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns or {"id": IDS, "text": TEXTS}), sink, **options)
    return sink.getvalue()


def pairs(rows: list[Record | Refusal]) -> list[tuple[object, object]]:
    return [(row.id, row.text) for row in rows if isinstance(row, Record)]


def keys(rows: list[Record | Refusal]) -> list[str | None]:
    return [clean(row, SOURCE.max_chars).id for row in rows if isinstance(row, Record)]


@pytest.mark.parametrize("page", ["1.0", "2.0"])
@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY", "RLE_DICTIONARY"])
def test_every_encoding_of_strings_is_read(encoding: str, page: str) -> None:
    plain = encoding != "RLE_DICTIONARY"
    options = {"use_dictionary": not plain, "column_encoding": {"text": encoding} if plain else None}
    assert pairs(read(written(data_page_version=page, **options))) == list(zip(IDS, TEXTS, strict=True))


@pytest.mark.parametrize("kind", [pa.string_view(), pa.large_string()])
def test_every_kind_of_string_is_read_from_delta_encoded_pages_too(kind: pa.DataType) -> None:
    bad = pa.array([b"fine", b"caf\xe9", b"x" * 500_000, None], pa.binary()).view(pa.string()).cast(kind)
    rows = read(
        written({"id": range(4), "text": bad}, use_dictionary=False, column_encoding={"text": "DELTA_BYTE_ARRAY"})
    )
    assert rows[:2] == [Record("row 1", 0, "fine"), Refusal("row 2", Reason.LINE_NOT_UTF8)]
    assert [clean(row, SOURCE.max_chars).reason for row in rows[2:] if isinstance(row, Record)] == [
        Reason.TEXT_TOO_LONG,
        Reason.TEXT_NOT_TEXT,
    ]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_what_duckdb_writes_is_read_in_either_version(tmp_path: Path, version: str) -> None:
    """Its v2 has delta-encoded strings, which Arrow does not read as dictionaries."""
    file = tmp_path / "a.parquet"
    query = f"SELECT 'r' || i AS id, 'review number ' || i AS text, [i] AS deep FROM range({ROWS}) t(i)"
    duckdb.connect().execute(f"COPY ({query}) TO '{file}' (FORMAT parquet, PARQUET_VERSION {version})")
    assert pairs(read(file.read_bytes())) == list(zip(IDS, TEXTS, strict=True))


def test_columns_of_any_kind_that_are_not_asked_for_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    duckdb.connect().execute(
        "COPY (SELECT 'a' AS id, 'x' AS text, {'id': 1, 'text': 2} AS pair, map{'id': 'b'} AS map, [['c']] AS lists, "
        "INTERVAL 1 DAY AS span, '\\xAA'::BLOB AS bytes, now() AS at, 7::HUGEINT AS huge, 1::DECIMAL(9, 2) AS price, "
        f"TIME '10:00' AS clock, '101'::BIT AS bits) TO '{file}' (FORMAT parquet)"
    )
    assert read(file.read_bytes()) == [Record("row 1", "a", "x")]


@pytest.mark.parametrize(
    ("ids", "options"),
    [
        (pa.array([Decimal(10**37)], pa.decimal128(38, 0)), {}),
        (pa.array([Decimal(10**37)], pa.decimal256(76, 0)), {}),
        (pa.array([Decimal(10**8)], pa.decimal32(9, 0)), {"store_decimal_as_integer": True}),
        (pa.array([2**64 - 1], pa.uint64()), {}),
        (pa.array([-(2**63)], pa.int64()), {"column_encoding": {"id": "BYTE_STREAM_SPLIT"}}),
        (pa.array([7], pa.int32()), {"column_encoding": {"id": "DELTA_BINARY_PACKED"}}),
        (pa.array([KEY.bytes], pa.uuid()), {}),
        (pa.array(["{}"], pa.json_()), {}),
        (pa.array([7]).dictionary_encode(), {}),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array | pa.ExtensionArray) else "",
)
def test_an_id_that_can_be_written_in_one_way_only_is_read_as_text(ids: pa.Array, options: dict[str, Any]) -> None:
    assert keys(read(written({"id": ids, "text": ["x"]}, use_dictionary=False, **options))) == [str(ids[0].as_py())]


def test_a_uuid_of_another_writer_is_the_one_that_a_database_shows(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    duckdb.connect().execute(f"COPY (SELECT '{KEY}'::UUID AS id, 'x' AS text) TO '{file}' (FORMAT parquet)")
    assert keys(read(file.read_bytes())) == [str(KEY)]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (pa.array([b"a"]), "is binary, expected .* decode.id. where it holds UTF-8 and hex.id. where it holds a key"),
        (pa.array([KEY.bytes], pa.binary(16)), r"is fixed_size_binary\[16\], expected .* hex\(id\)"),
        (pa.array([Decimal("7.5")]), r"is decimal128\(2, 1\), expected .* CAST\(id AS VARCHAR\)"),
        (pa.array([7.0]), r"is double, expected .* CAST\(id AS VARCHAR\)"),
        (pa.array([datetime.date(2026, 11, 10)]), r"is date32.*, expected .* CAST\(id AS VARCHAR\)"),
        (pa.array([{"x" * 90: 1}]), r"is struct<x{53}, expected"),
    ],
)
def test_a_column_that_is_no_id_is_refused_with_the_cast_that_makes_it_one(kind: pa.Array, said: str) -> None:
    with pytest.raises(DataError, match=rf"column 'id' {said}"):
        read(parquet(id=kind, text=["x"]))


def test_integers_that_parquet_has_no_type_for_are_told_and_not_taken_for_damage() -> None:
    sink = io.BytesIO()
    pl.DataFrame({"id": [2**64], "text": ["x"]}).write_parquet(sink)
    with pytest.raises(DataError, match=r"'a.parquet': a column holds integers of more than 64 bits .*decimal\(38,0\)"):
        read(sink.getvalue())


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]


def page_of(content: bytes, group: int, column: int) -> int:
    """Return where the last page of a column chunk ends."""
    chunk = pq.ParquetFile(io.BytesIO(content)).metadata.row_group(group).column(column)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    return start + chunk.total_compressed_size - 1


@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize(
    "options", [{}, {"use_dictionary": False}, {"data_page_version": "2.0", "compression": "zstd"}]
)
def test_a_damaged_page_costs_the_rows_from_its_group_on_and_each_is_counted(
    options: dict[str, Any], column: int
) -> None:
    content = written(row_group_size=20, write_page_checksum=True, **options)
    rows = read(flipped(content, page_of(content, 1, column)))
    assert pairs(rows) == list(zip(IDS[:20], TEXTS[:20], strict=True))
    assert rows[20:] == [Refusal(f"row {number}", Reason.FILE_CORRUPT) for number in range(21, 61)]


def test_a_checksum_tells_a_text_that_was_changed_from_one_that_was_written() -> None:
    content = written({"id": IDS, "text": TEXTS}, use_dictionary=False, compression="none", write_page_checksum=True)
    changed = content.replace(b"review number 7", b"review number 1")
    assert {row.reason for row in read(changed) if isinstance(row, Refusal)} == {Reason.FILE_CORRUPT}
    assert pairs(read(changed)) == []


def test_a_page_of_fewer_values_than_it_held_puts_no_text_beside_another_id() -> None:
    content = written(use_dictionary=False, compression="none", data_page_size=64, write_batch_size=10)
    # A page's header ends with the number of its values, as a zigzag number: here 10, and 9 in its place.
    damaged = content.replace(bytes([0x2C, 0x15, 20, 0x15]), bytes([0x2C, 0x15, 18, 0x15]), 1)
    assert damaged != content
    assert read(damaged) == [Refusal(f"row {number}", Reason.FILE_CORRUPT) for number in range(1, ROWS + 1)]


def test_a_row_group_that_has_lost_rows_by_its_footer_is_noticed() -> None:
    content = written(row_group_size=20)
    # Of a row group in the footer: the number of rows as a zigzag number, here 20 and then 19, before where it begins.
    fewer = content.replace(bytes([0x16, 40, 0x26]), bytes([0x16, 38, 0x26]), 1)
    assert fewer != content
    assert read(fewer) == [Refusal(f"row {number}", Reason.FILE_CORRUPT) for number in range(1, ROWS + 1)]


def test_a_dictionary_s_damaged_index_is_no_other_text() -> None:
    content = written({"id": range(ROWS), "text": TEXTS[:3] * 20}, compression="none")
    at = page_of(content, 0, 1) - 1  # the last byte only fills up
    assert {type(row) for row in read(content[:at] + b"\xff" + content[at + 1 :])} == {Refusal}


@pytest.mark.parametrize(
    ("damage", "reason", "count"),
    [
        (lambda content: content[:-1], Reason.FILE_TRUNCATED, 1),
        (lambda content: content[:40], Reason.FILE_TRUNCATED, 1),
        (lambda content: content[:40] + content[-8:], Reason.FILE_CORRUPT, 1),
        (lambda content: content[4:], Reason.FILE_CORRUPT, 60),
        (lambda content: b"\x89PNG" + content[4:-4], Reason.FILE_WRONG_KIND, 1),
        (
            lambda content: content[:4] + bytes(len(content) // 2) + content[4 + len(content) // 2 :],
            Reason.FILE_CORRUPT,
            60,
        ),
    ],
    ids=["no end", "cut", "no footer", "no beginning", "neither", "zeros"],
)
def test_a_file_that_cannot_be_read_counts_as_many_rows_as_its_footer_says(
    damage: Callable[[bytes], bytes], reason: Reason, count: int
) -> None:
    rows = read(damage(written(write_page_checksum=True)))
    assert rows == [Refusal(f"row {number}", reason) for number in range(1, count + 1)]


def test_a_footer_cannot_claim_more_rows_than_the_file_has_bytes() -> None:
    content = parquet(id=pa.nulls(100_000), text=pa.nulls(100_000))
    rows = read(content.replace(b"\xc0\x9a\x0c", b"\xfe\xff\x3f"))
    assert {row.reason for row in rows if isinstance(row, Refusal)} == {Reason.FILE_CORRUPT}
    assert len(rows) == len(content)


def test_rows_without_end_that_take_no_room_are_not_read() -> None:
    content = parquet(id=pa.nulls(1_000_001), text=pa.nulls(1_000_001))
    rows = read(content)
    assert {row.reason for row in rows if isinstance(row, Refusal)} == {Reason.FILE_BOMB}
    assert len(rows) == len(content)


@contextmanager
def arrow_memory() -> Iterator[pa.MemoryPool]:
    """Count what Arrow holds at most: pages are decoded before the first row is given, and their memory is kept."""
    kept = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(kept)
    pa.set_memory_pool(pool)
    try:
        yield pool
    finally:
        pa.set_memory_pool(kept)


@pytest.mark.parametrize("encoding", ["RLE_DICTIONARY", "DELTA_BYTE_ARRAY"])
def test_a_text_repeated_without_end_is_stopped_in_bounded_memory(encoding: str) -> None:
    texts = pa.chunked_array([["x" * 400_000] * 20] * 20)
    delta = {"use_dictionary": False, "column_encoding": {"text": encoding}}
    content = written({"id": range(400), "text": texts}, **({} if encoding == "RLE_DICTIONARY" else delta))
    with arrow_memory() as pool:
        assert {row.reason for row in read(content) if isinstance(row, Refusal)} == {Reason.FILE_BOMB}
        assert pool.max_memory() < 64 << 20
