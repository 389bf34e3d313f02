"""What an append reads to know which of its rows are there: each file once, and again where one is gone."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from llambert_etl.lake import Lake
from llambert_etl.lake.upkeep import merge_small_files
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.schemas import TABLES, TableName

DAY = Partition("2026-11-10")
BY_HAND = Manifest(step="test", task="reviews", partition=DAY, run="r1")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(str(tmp_path / "lake"))
    made.create_tables()
    return made


def append(lake: Lake, *texts: str, table: TableName = "annotations", day: Partition = DAY) -> None:
    rows = [
        {"task": "reviews", "partition": day, "id": each, "text_hash": each, "status": "labelled"} for each in texts
    ]
    declared = TABLES[table].schema
    named = [{name: row.get(name) for name in declared.names} for row in rows]
    lake.append_once(table, "reviews", day, pa.Table.from_pylist(named, schema=declared), manifest=BY_HAND)


def held(lake: Lake, table: TableName = "annotations") -> list[str]:
    return lake.scan(table, "reviews").sort("partition", "text_hash").collect()["text_hash"].to_list()


def files(lake: Lake) -> list[Path]:
    return sorted(Path(lake.table_uri("annotations")).rglob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)


def test_a_file_whose_keys_are_known_is_not_read_again(lake: Lake) -> None:
    append(lake, "a")
    append(lake, "b")
    (first, _) = files(lake)
    content = first.read_bytes()
    first.write_bytes(b"")
    append(lake, "a", "b", "c")
    first.write_bytes(content)
    assert held(lake) == ["a", "b", "c"]


def take_out(lake: Lake) -> None:
    without = pl.col("text_hash") != "a"
    lake.rewrite_partition(
        "annotations", "reviews", DAY, lambda rows: rows.filter(without), commit_key=None, manifest=BY_HAND
    )


@pytest.mark.parametrize(
    ("change", "left"),
    [
        pytest.param(lambda lake: append(lake, "c"), ["a", "b", "c"], id="appended"),
        pytest.param(lambda lake: merge_small_files(lake, "annotations"), ["a", "b", "c"], id="merged"),
        pytest.param(take_out, ["a", "b", "c"], id="taken out"),
        pytest.param(lambda lake: lake.restore("annotations", 0), ["a", "c"], id="restored"),
    ],
)
def test_what_another_has_changed_meanwhile_is_seen(
    lake: Lake, change: Callable[[Lake], object], left: list[str]
) -> None:
    append(lake, "a")
    append(lake, "b")
    change(Lake(lake.uri))
    append(lake, "a", "c")
    assert held(lake) == left


def test_a_key_that_is_of_a_partition_is_held_by_that_one_only(lake: Lake) -> None:
    later = Partition("2026-11-11")
    append(lake, "a", table="reviews")
    append(lake, "a", table="reviews", day=later)
    append(lake, "a", table="reviews")
    assert held(lake, "reviews") == ["a", "a"]
