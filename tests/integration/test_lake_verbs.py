"""The three verbs of the lake on a real store: keyed, fenced, streamed, strict."""

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.lake import Lake
from llambert_etl.lake.upkeep import merge_small_files
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.schemas import TABLES

DAY, NEXT = Partition("2026-11-10"), Partition("2026-11-11")


def documents(ids: list[str], day: Partition = DAY, task: str = "reviews") -> pa.Table:
    rows = [
        {"task": task, "partition": day, "id": each, "status": "accepted", "text": f"text {each}", "text_hash": each}
        for each in ids
    ]
    return pa.Table.from_pylist(rows, schema=TABLES["documents"].schema)


def manifest(run: str = "r1", day: Partition = DAY) -> Manifest:
    return Manifest(step="ingest", task="reviews", partition=day, run=run)


def ids(lake: Lake, day: Partition | None = None) -> list[str]:
    return sorted(lake.scan("documents", "reviews", day).collect()["id"].to_list())


def replace(lake: Lake, rows: pa.Table, key: str, day: Partition = DAY, run: str = "r1") -> bool:
    staged = lake.stage("documents", "reviews", day, [rows], name="part")
    return lake.replace_partition(
        "documents", "reviews", day, staged, commit_key=key, manifest=manifest(run, day)
    ).replayed


def test_staged_rows_are_unseen_until_they_are_committed(lake: Lake) -> None:
    staged = lake.stage("documents", "reviews", DAY, [documents(["a", "b"])], name="part")
    assert ids(lake) == []
    assert lake.scan_staged("documents", "reviews", DAY, staged).collect()["id"].to_list() == ["a", "b"]
    lake.replace_partition("documents", "reviews", DAY, staged, commit_key="k", manifest=manifest())
    assert ids(lake) == ["a", "b"]


def test_replaying_a_replacement_adds_no_version_and_no_row(lake: Lake) -> None:
    assert not replace(lake, documents(["a"]), "k")
    before = lake.version("documents")
    assert replace(lake, documents(["a"]), "k")
    assert (lake.version("documents"), ids(lake)) == (before, ["a"])


def test_a_replacement_leaves_other_partitions_and_tasks_alone(lake: Lake) -> None:
    replace(lake, documents(["a"]), "k1")
    replace(lake, documents(["b"], NEXT), "k2", NEXT)
    replace(lake, documents(["c"]), "k3")
    assert ids(lake) == ["b", "c"]


def test_a_writer_that_began_before_a_replacement_cannot_undo_it(lake: Lake) -> None:
    late = lake.stage("documents", "reviews", DAY, [documents(["old"])], name="part")
    replace(lake, documents(["new"]), "new")
    with pytest.raises(TransientError, match="another writer replaced it"):
        lake.replace_partition("documents", "reviews", DAY, late, commit_key="old", manifest=manifest())
    assert ids(lake) == ["new"]


def test_a_partition_can_become_empty_and_is_still_known_by_its_key(lake: Lake) -> None:
    replace(lake, documents(["a"]), "k1")
    replace(lake, documents([]), "k2")
    assert ids(lake) == []
    assert lake.holds("documents", "reviews", DAY, "k2")


def test_append_once_adds_only_what_is_absent(lake: Lake) -> None:
    lake.append_once("documents", "reviews", DAY, documents(["a", "b"]), manifest=manifest())
    lake.append_once("documents", "reviews", DAY, documents(["b", "c", "c"]), manifest=manifest("r2"))
    assert ids(lake) == ["a", "b", "c"]


def test_replaying_append_once_makes_no_commit(lake: Lake) -> None:
    lake.append_once("documents", "reviews", DAY, documents(["a"]), manifest=manifest())
    before = lake.version("documents")
    assert lake.append_once("documents", "reviews", DAY, documents(["a"]), manifest=manifest()).replayed
    assert lake.version("documents") == before


@pytest.mark.parametrize(
    ("column", "kind", "message"),
    [
        ("id", pa.int64(), "'id' is int64, expected string"),
        ("text", pa.int64(), "'text' is int64"),
        ("reason", None, "'reason' is missing"),
        ("surprise", pa.string(), r"unexpected columns \['surprise'\]"),
    ],
)
def test_another_schema_is_refused_before_any_commit(lake: Lake, column: str, kind: pa.DataType, message: str) -> None:
    rows, before = documents(["1"]), lake.version("documents")
    if kind is None:
        rows = rows.drop_columns([column])
    elif column in rows.schema.names:
        rows = rows.set_column(rows.schema.get_field_index(column), pa.field(column, kind), pa.array([1], kind))
    else:
        rows = rows.append_column(column, pa.array(["x"], kind))
    with pytest.raises(DataError, match=message):
        lake.append_once("documents", "reviews", DAY, rows, manifest=manifest())
    with pytest.raises(DataError, match=message):
        lake.stage("documents", "reviews", DAY, [rows], name="part")
    assert lake.version("documents") == before


def test_rows_of_another_day_cannot_be_staged_into_a_partition(lake: Lake) -> None:
    with pytest.raises(DataError, match="rows of partition"):
        lake.stage("documents", "reviews", DAY, [documents(["a"], NEXT)], name="part")


def test_a_commit_carries_its_manifest(lake: Lake) -> None:
    replace(lake, documents(["a"]), "k", run="scheduled__1")
    commit = lake.last_commit("documents", "reviews", DAY)
    assert commit is not None
    assert commit.manifest == manifest("scheduled__1")


def test_compaction_keeps_every_row_and_every_key(lake: Lake) -> None:
    for number in range(5):
        lake.append_once("documents", "reviews", DAY, documents([str(number)]), manifest=manifest(str(number)))
    replace(lake, documents(["x"], NEXT), "k", NEXT)
    assert merge_small_files(lake, "documents") >= 5
    assert ids(lake) == ["0", "1", "2", "3", "4", "x"]
    assert lake.holds("documents", "reviews", NEXT, "k")


# Restoring a table


def test_a_restored_table_forgets_what_was_done_since_and_takes_it_again(lake: Lake) -> None:
    replace(lake, documents(["a"]), "k1")
    good = lake.version("documents")
    late = lake.stage("documents", "reviews", DAY, [documents(["x"])], name="part")
    replace(lake, documents(["a", "b"]), "k2", run="r2")
    replace(lake, documents(["n"], NEXT), "n1", NEXT, run="r2")
    lake.restore("documents", good)
    assert (ids(lake), lake.version("documents")) == (["a"], good + 3)
    assert lake.holds("documents", "reviews", DAY, "k1")
    assert [commit.version for commit in lake.commits("documents", "reviews")] == [good]
    assert lake.last_commit("documents", "reviews", NEXT) is None
    assert not replace(lake, documents(["a", "b"]), "k2", run="r3")
    assert not replace(lake, documents(["n"], NEXT), "n1", NEXT, run="r3")
    assert ids(lake) == ["a", "b", "n"]
    assert [commit.version for commit in lake.commits("documents", "reviews")] == [good + 5, good + 4, good]
    with pytest.raises(TransientError, match="another writer replaced it"):
        lake.replace_partition("documents", "reviews", DAY, late, commit_key="x", manifest=manifest())


def test_a_table_can_be_restored_to_a_version_that_a_restore_had_undone(lake: Lake) -> None:
    replace(lake, documents(["a"]), "k1")
    replace(lake, documents(["b"]), "k2", run="r2")
    lake.restore("documents", 1)
    lake.restore("documents", 2)
    assert (ids(lake), lake.holds("documents", "reviews", DAY, "k2")) == (["b"], True)
    assert [commit.version for commit in lake.commits("documents", "reviews")] == [2, 1]


def test_a_version_that_is_not_there_cannot_be_restored(lake: Lake) -> None:
    replace(lake, documents(["a"]), "k1")
    replace(lake, documents(["b"]), "k2")
    for version in (-1, 2, 9):
        with pytest.raises(ConfigError, match=f"documents: version {version} is not before 2"):
            lake.restore("documents", version)
    table = DeltaTable(lake.table_uri("documents"), storage_options=lake._options)
    table.vacuum(0, dry_run=False, enforce_retention_duration=False)
    with pytest.raises(ConfigError, match="files of that version are deleted already; name a later version"):
        lake.restore("documents", 1)
    assert ids(lake) == ["b"]
