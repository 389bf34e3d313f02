"""How rows lie in the files of a table: in an order and in groups that let a reader skip, whole, and in few bytes."""

import random
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llambert_etl.corpus.documents import hash_text, in_shard
from llambert_etl.lake import Lake, collect, scan_texts
from llambert_etl.lake.upkeep import merge_small_files
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.schemas import TABLES, TableName
from tests.given.documents import DAY, TASK

ROWS = 40_000
LABELS = ("negative", "positive")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path / "lake"))
    lake.create_tables()
    return lake


def fill(lake: Lake, table: TableName, rows: pa.Table, key: str = "1") -> list[Path]:
    """Write rows as ingest and label do, in chunks; return their files."""
    chunks = [rows.slice(start, 4_096) for start in range(0, rows.num_rows, 4_096)]
    staged = lake.stage(table, TASK, DAY, chunks, name="part")
    manifest = Manifest(step="ingest", task=TASK, partition=DAY, run="r1")
    lake.replace_partition(table, TASK, DAY, staged, commit_key=key, manifest=manifest)
    return [Path(lake.uri, table, file.key) for file in staged.files]


def documents(rows: int = ROWS, day: Partition = DAY) -> pa.Table:
    texts = [f"text {number} of {day}" for number in range(rows)]
    return pa.table(
        {
            "task": [TASK] * rows,
            "partition": [day] * rows,
            "id": [f"id-{number}" for number in range(rows)],
            "status": ["accepted"] * rows,
            "reason": pa.nulls(rows, pa.string()),
            "source": ["a.jsonl"] * rows,
            "place": [f"line {number}" for number in range(rows)],
            "text": texts,
            "text_hash": [hash_text(text) for text in texts],
            "run": ["r1"] * rows,
        },
        schema=TABLES["documents"].schema,
    )


def labels(rows: int = ROWS) -> pa.Table:
    draw = random.Random(5)  # noqa: S311
    shares = [round(draw.random() * 2**16) / 2**16 for _ in range(rows)]
    return pa.Table.from_pylist(
        [
            {
                "task": TASK,
                "partition": DAY,
                "id": f"id-{number}",
                "text_hash": hash_text(str(number)),
                "label": LABELS[share > 0.5],
                "confidence": max(share, 1 - share),
                "probabilities": [
                    {"label": name, "probability": each} for name, each in zip(LABELS, (1 - share, share), strict=True)
                ],
                "model_name": "llambert.reviews",
                "model_version": 3,
                "config_hash": "0123456789abcdef",
                "run": "r1",
            }
            for number, share in enumerate(shares)
        ],
        schema=TABLES["labels"].schema,
    )


def by_id(rows: pa.Table) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(rows)).sort("id")


def read(lake: Lake, table: TableName) -> pl.DataFrame:
    return collect(lake.scan(table, TASK, DAY)).select(TABLES[table].schema.names).sort("id")


@pytest.mark.parametrize(("table", "rows"), [("documents", documents()), ("labels", labels())])
def test_rows_are_sorted_by_text_hash_in_groups_that_do_not_overlap(
    lake: Lake, table: TableName, rows: pa.Table
) -> None:
    (file,) = fill(lake, table, rows)
    assert read(lake, table).equals(by_id(rows))
    found = pq.read_table(file)["text_hash"].to_pylist()
    assert found == sorted(found)
    footer = pq.read_metadata(file)
    assert footer.num_row_groups > 1
    column = footer.schema.names.index("text_hash")
    ranges = [footer.row_group(group).column(column).statistics for group in range(footer.num_row_groups)]
    assert all(one.max < other.min for one, other in zip(ranges, ranges[1:], strict=False))


def test_a_row_of_labels_needs_few_bytes(lake: Lake) -> None:
    (file,) = fill(lake, "labels", labels())
    assert file.stat().st_size / ROWS < 44, "its hash is 32 of them, and cannot be told shorter"


def test_a_shard_reads_the_row_groups_of_its_own_texts(lake: Lake) -> None:
    fill(lake, "documents", documents())
    rows = lake.scan("documents", TASK, DAY).select("id", "text", "text_hash")
    whole, everything = bytes_read(rows)
    part, own = bytes_read(rows.filter(in_shard(0, 16)))
    assert (everything, 0.8 < own * 16 / ROWS < 1.2) == (ROWS, True)
    assert part < 0.35 * whole, "one of five groups"


def test_a_text_that_comes_again_costs_one_row_group_of_its_file(lake: Lake) -> None:
    (file,) = fill(lake, "labels", labels())
    named = [str(file.relative_to(lake.table_uri("labels")))]
    found = scan_texts(lake, "labels", TASK, named, pl.Series([hash_text("17"), "no text"]))
    whole, _ = bytes_read(lake.scan("labels", TASK, DAY).select(pl.exclude("task", "partition")))
    own, rows = bytes_read(found)
    assert rows == 1
    assert own < 0.35 * whole, "of five"


def bytes_read(frame: pl.LazyFrame) -> tuple[int, int]:
    """Return how many bytes this process has read for the frame, and its rows."""
    before = _read_so_far()
    rows = collect(frame).height
    return _read_so_far() - before, rows


def _read_so_far() -> int:
    return int(Path("/proc/self/io").read_text(encoding="ascii").split()[1])


@pytest.mark.parametrize(("table", "rows"), [("documents", documents()), ("labels", labels())])
def test_merging_files_keeps_their_layout(lake: Lake, table: TableName, rows: pa.Table) -> None:
    files, merged = merge(lake, table, rows)
    assert read(lake, table).equals(by_id(rows))
    assert merged.stat().st_size < 1.03 * sum(file.stat().st_size for file in files)
    before, after = (pq.read_metadata(file).row_group(0) for file in (files[0], merged))
    for column in range(before.num_columns):
        one, other = before.column(column), after.column(column)
        assert one.path_in_schema == other.path_in_schema
        if "." not in one.path_in_schema:  # deltalake finds no column within another
            assert ("RLE_DICTIONARY" in one.encodings) == ("RLE_DICTIONARY" in other.encodings)


# What Spark's reader takes, from 3.3 to 4.1, unless it is told to be slow.
READ_BY_SPARK = {"PLAIN", "PLAIN_DICTIONARY", "RLE", "RLE_DICTIONARY", "DELTA_BINARY_PACKED", "DELTA_BYTE_ARRAY"}


@pytest.mark.parametrize(("table", "rows"), [("documents", documents(100)), ("labels", labels(100))])
def test_spark_reads_every_column(lake: Lake, table: TableName, rows: pa.Table) -> None:
    files, merged = merge(lake, table, rows)
    groups = [pq.read_metadata(file).row_group(0) for file in (*files, merged)]
    found = {coding for group in groups for at in range(group.num_columns) for coding in group.column(at).encodings}
    assert found <= READ_BY_SPARK


def merge(lake: Lake, table: TableName, rows: pa.Table) -> tuple[list[Path], Path]:
    """Write two files of a day, as two shards do, and merge them; return them and the one that they become."""
    half = rows.num_rows // 2
    halves = [lake.stage(table, TASK, DAY, [rows.slice(start, half)], name="half") for start in (0, half)]
    staged = halves[0].model_copy(update={"files": tuple(file for each in halves for file in each.files)})
    manifest = Manifest(step="ingest", task=TASK, partition=DAY, run="r1")
    lake.replace_partition(table, TASK, DAY, staged, commit_key="1", manifest=manifest)
    assert merge_small_files(lake, table) == 2
    (merged,) = lake.open(table).file_uris()
    return [Path(lake.uri, table, file.key) for file in staged.files], Path(merged)


@pytest.mark.parametrize(("table", "rows"), [("documents", documents(20_000)), ("labels", labels(20_000))])
def test_strings_that_come_as_views_are_written_as_the_strings_that_they_are(
    lake: Lake, table: TableName, rows: pa.Table
) -> None:
    fields = [pa.field(each.name, pa.string_view() if each.type == pa.string() else each.type) for each in rows.schema]
    (plain,), (seen,) = fill(lake, table, rows), fill(lake, table, rows.cast(pa.schema(fields)), key="2")
    assert pq.read_schema(seen) == pq.read_schema(plain)
    assert pq.read_table(seen).equals(pq.read_table(plain))
    assert pq.read_metadata(seen).num_row_groups == pq.read_metadata(plain).num_row_groups
