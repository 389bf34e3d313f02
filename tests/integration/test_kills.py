"""The lake when its writer is killed, paused, raced or lied to: every fault at an exact request, on a real store."""

import json
import os
import signal
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import boto3
import polars as pl
import pyarrow as pa
import pytest

from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.lake import Lake, lake_faults
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.schemas import TABLES
from llambert_etl.settings import Settings
from llambert_etl.stack.seaweed import SeaweedFS
from tests.children import Child, race
from tests.faults import COMMIT, Fault, Proxy

DAY, NEXT = Partition("2026-11-10"), Partition("2026-11-11")
TASK = "reviews"
LOST = ["500_after", "drop_after"]
TRANSIENT = TransientError.exit_code
# Limits short enough to wait for; each stands for the longer one of Settings.
SHORT = {"timeout": "2s", "connect_timeout": "1s", "max_retries": "2", "retry_timeout": "6s"}


@pytest.fixture
def options(settings: Settings, proxy: Proxy) -> dict[str, str]:
    return {**settings.storage_options, "aws_endpoint": proxy.endpoint()}


@pytest.fixture
def faulty(lake: Lake, options: dict[str, str]) -> Lake:
    """Return the same lake, through the proxy."""
    return Lake(lake.uri, {**options, **SHORT})


def documents(ids: str, day: Partition = DAY) -> pa.Table:
    rows = [
        {"task": TASK, "partition": day, "id": each, "status": "accepted", "text": f"text {each}", "text_hash": each}
        for each in ids
    ]
    return pa.Table.from_pylist(rows, schema=TABLES["documents"].schema)


def manifest(run: str, day: Partition = DAY) -> Manifest:
    return Manifest(step="ingest", task=TASK, partition=day, run=run)


def content(lake: Lake, day: Partition | None = None) -> str:
    """Return the ids of the documents, one letter each, sorted."""
    return "".join(sorted(lake.scan("documents", TASK, day).collect()["id"]))


def replace(lake: Lake, ids: str, key: str | None = None) -> bool:
    staged = lake.stage("documents", TASK, DAY, [documents(ids)], name="part")
    return lake.replace_partition(
        "documents", TASK, DAY, staged, commit_key=key or ids, manifest=manifest("r1")
    ).replayed


def append(lake: Lake, ids: str, run: str = "r1") -> bool:
    return lake.append_once("documents", TASK, DAY, documents(ids), manifest=manifest(run)).replayed


# What runs in another process: up to `yield` before the start signal, the rest after it.


def replacing(uri: str, options: dict[str, str], ids: str, key: str) -> Generator[None, None, bool]:
    lake = Lake(uri, options)
    yield
    return replace(lake, ids, key)


def staged_then_replacing(uri: str, options: dict[str, str], ids: str, key: str) -> Generator[None, None, bool]:
    lake = Lake(uri, options)
    staged = lake.stage("documents", TASK, DAY, [documents(ids)], name="part")
    yield
    return lake.replace_partition("documents", TASK, DAY, staged, commit_key=key, manifest=manifest("r1")).replayed


def replacing_day(uri: str, options: dict[str, str], day: str, ids: str) -> Generator[None, None, int]:
    lake, partition = Lake(uri, options), Partition(day)
    staged = lake.stage("documents", TASK, partition, [documents(ids, partition)], name="part")
    yield
    return lake.replace_partition(
        "documents", TASK, partition, staged, commit_key=ids, manifest=manifest("r1", partition)
    ).version


def appending(uri: str, options: dict[str, str], ids: str, run: str) -> Generator[None, None, bool]:
    lake = Lake(uri, options)
    yield
    return append(lake, ids, run)


def creating(uri: str, options: dict[str, str]) -> Generator[None, None, int]:
    yield
    lake = Lake(uri, options)
    lake.create_tables()
    append(lake, "a")
    return lake.version("documents")


# R01, R02: killed around its commit

VERBS = [replacing, appending]


@pytest.mark.parametrize("verb", VERBS)
def test_a_writer_killed_before_its_commit_leaves_the_previous_version(
    lake: Lake, options: dict[str, str], proxy: Proxy, verb: Any
) -> None:
    replace(lake, "old")
    before = lake.version("documents")
    with Child(verb, lake.uri, options, "new", "new") as writer:
        proxy.rule("kill_before", "PUT", COMMIT, pid=writer.ready().pid)
        writer.go()
        assert writer.wait() == -signal.SIGKILL
    assert (lake.version("documents"), content(lake)) == (before, "dlo")
    with Child(verb, lake.uri, options, "new", "new") as again:
        assert race([again]) == [False]
    assert content(lake) == ("enw" if verb is replacing else "delnow")


@pytest.mark.parametrize("verb", VERBS)
def test_a_writer_killed_after_its_commit_is_found_to_be_done_by_the_next(
    lake: Lake, options: dict[str, str], proxy: Proxy, verb: Any
) -> None:
    with Child(verb, lake.uri, options, "new", "new") as writer:
        proxy.rule("kill_after", "PUT", COMMIT, pid=writer.ready().pid)
        writer.go()
        assert writer.wait() == -signal.SIGKILL
    before = lake.version("documents")
    assert content(lake) == "enw"
    with Child(verb, lake.uri, options, "new", "new") as again:
        assert race([again]) == [True]
    assert (lake.version("documents"), content(lake)) == (before, "enw")


def test_a_writer_killed_while_it_stages_leaves_nothing_that_a_reader_sees(
    lake: Lake, options: dict[str, str], proxy: Proxy
) -> None:
    with Child(replacing, lake.uri, options, "new", "new") as writer:
        proxy.rule("kill_before", "(PUT|POST)", r"/documents/task.*\.parquet", pid=writer.ready().pid)
        writer.go()
        assert writer.wait() == -signal.SIGKILL
    assert content(lake) == ""
    assert not replace(lake, "new")
    assert content(lake) == "enw"


# R03: the reply to the commit is lost


@pytest.mark.parametrize("fault", LOST)
def test_a_replacement_whose_reply_is_lost_is_known_by_its_key(
    lake: Lake, faulty: Lake, proxy: Proxy, fault: Fault
) -> None:
    replace(lake, "old")
    before = lake.version("documents")
    proxy.rule(fault, "PUT", COMMIT)
    assert replace(faulty, "new")
    assert (lake.version("documents"), content(lake)) == (before + 1, "enw")
    commit = lake.last_commit("documents", TASK, DAY)
    assert commit is not None
    assert commit.version == before + 1


@pytest.mark.parametrize("fault", LOST)
def test_an_append_whose_reply_is_lost_is_known_by_its_rows(
    lake: Lake, faulty: Lake, proxy: Proxy, fault: Fault
) -> None:
    before = lake.version("documents")
    proxy.rule(fault, "PUT", COMMIT)
    append(faulty, "new")
    assert (lake.version("documents"), content(lake)) == (before + 1, "enw")


# R04: the same step twice


def test_a_verb_replayed_after_other_commits_changes_nothing(lake: Lake) -> None:
    def state() -> tuple[int, pl.DataFrame]:
        return lake.version("documents"), lake.scan("documents", TASK).collect().sort("id")

    replace(lake, "abc")
    append(lake, "de")
    lake.append_once("documents", TASK, NEXT, documents("x", NEXT), manifest=manifest("r1", NEXT))
    version, rows = state()
    assert replace(lake, "abc")
    assert append(lake, "de")
    assert state()[0] == version
    assert state()[1].equals(rows)


# R05: several pods of one step. `gather` holds the commits until all are there.


def test_racing_replacements_with_the_same_content_make_one_commit_and_all_succeed(
    lake: Lake, options: dict[str, str], proxy: Proxy
) -> None:
    writers, before = 3, lake.version("documents")
    proxy.rule("gather", "PUT", COMMIT, times=writers)
    outcomes = run([(staged_then_replacing, lake.uri, options, "new", "new")] * writers)
    assert sorted(outcomes) == [False] + [True] * (writers - 1)
    assert (lake.version("documents"), content(lake)) == (before + 1, "enw")


def test_of_racing_replacements_with_other_content_one_wins_and_the_others_may_try_again(
    lake: Lake, options: dict[str, str], proxy: Proxy
) -> None:
    replace(lake, "old")
    before = lake.version("documents")
    proxy.rule("gather", "PUT", COMMIT, times=3)
    outcomes = run([(staged_then_replacing, lake.uri, options, name, name) for name in ("abc", "def", "ghi")])
    assert sorted(outcomes) == [False, TRANSIENT, TRANSIENT]
    assert lake.version("documents") == before + 1
    assert content(lake) == ("abc", "def", "ghi")[outcomes.index(False)]


def test_racing_replacements_of_other_days_all_win_though_each_removes_files(
    lake: Lake, options: dict[str, str], proxy: Proxy
) -> None:
    days = (DAY, NEXT, Partition("2026-11-12"))
    for day in days:
        list(replacing_day(lake.uri, options, day, "old"))
    before = lake.version("documents")
    proxy.rule("gather", "PUT", COMMIT, times=len(days))
    outcomes = run([(replacing_day, lake.uri, options, day, "new") for day in days])
    assert sorted(outcomes) == [before + 1, before + 2, before + 3]
    assert [content(lake, day) for day in days] == ["enw"] * len(days)


def test_racing_appends_of_overlapping_rows_add_each_row_once(
    lake: Lake, options: dict[str, str], proxy: Proxy
) -> None:
    proxy.rule("gather", "PUT", COMMIT, times=3)
    outcomes = run([(appending, lake.uri, options, name, name) for name in ("ab", "bc", "cd")])
    assert TRANSIENT not in outcomes
    assert content(lake) == "abcd"


def run(calls: list[tuple[Any, ...]]) -> list[Any]:
    children = [Child(*call) for call in calls]
    try:
        return race(children)
    finally:
        for each in children:
            each.__exit__()


# R06: a paused writer wakes up after its replacement has committed


def test_a_writer_paused_at_its_commit_does_not_overwrite_its_successor(
    lake: Lake, options: dict[str, str], proxy: Proxy
) -> None:
    replace(lake, "old")
    with Child(replacing, lake.uri, options, "zombie", "zombie") as zombie:
        pause = proxy.rule("pause", "PUT", COMMIT, pid=zombie.ready().pid)
        zombie.go()
        assert proxy.reached(pause)
        replace(lake, "new")
        before = lake.version("documents")
        zombie.resume()
        proxy.release(pause)
        assert zombie.result() == TRANSIENT
    assert (lake.version("documents"), content(lake)) == (before, "enw")


def test_a_writer_paused_between_staging_and_commit_does_not_overwrite_its_successor(
    lake: Lake, options: dict[str, str]
) -> None:
    replace(lake, "old")
    with Child(staged_then_replacing, lake.uri, options, "zombie", "zombie") as zombie:
        os.kill(zombie.ready().pid, signal.SIGSTOP)
        replace(lake, "new")
        zombie.go()
        zombie.resume()
        assert zombie.result() == TRANSIENT
        assert "another writer replaced it" in zombie.errors()
    assert content(lake) == "enw"


def test_an_append_paused_at_its_commit_adds_only_what_its_successor_left_out(
    lake: Lake, options: dict[str, str], proxy: Proxy
) -> None:
    with Child(appending, lake.uri, options, "ab", "zombie") as zombie:
        pause = proxy.rule("pause", "PUT", COMMIT, pid=zombie.ready().pid)
        zombie.go()
        assert proxy.reached(pause)
        append(lake, "bc")
        zombie.resume()
        proxy.release(pause)
        assert zombie.result() is False
    assert content(lake) == "abc"


# R12: the first run of all


def test_six_processes_may_create_the_tables_at_once(
    bucket: str, settings: Settings, options: dict[str, str], proxy: Proxy
) -> None:
    uri = f"s3://{bucket}/fresh"
    proxy.rule("gather", "PUT", r"/documents/_delta_log/0+\.json", times=6)
    assert all(isinstance(outcome, int) and outcome != TRANSIENT for outcome in run([(creating, uri, options)] * 6))
    lake = Lake(uri, settings.storage_options)
    assert {table: lake.version(table) for table in TABLES if table != "documents"} == dict.fromkeys(
        [table for table in TABLES if table != "documents"], 0
    )
    assert content(lake) == "a"


# R16, R17, R18: a store that refuses, hangs or cuts short


def test_a_burst_of_refusals_is_waited_out(lake: Lake, faulty: Lake, proxy: Proxy) -> None:
    before = lake.version("documents")
    burst = proxy.rule("503", "PUT", COMMIT, times=2)
    assert not replace(faulty, "new")
    assert proxy.seen(burst) == 3
    assert (lake.version("documents"), content(lake)) == (before + 1, "enw")


@pytest.mark.parametrize(
    ("fault", "method", "path"),
    [
        ("503", "PUT", COMMIT),
        ("503", "(PUT|POST)", r"\.parquet"),
        ("503", "GET", r"_delta_log"),
        ("drop_before", "PUT", COMMIT),
        ("delay", "PUT", COMMIT),
        ("delay", "(PUT|POST)", r"\.parquet"),
        ("delay", "GET", r"_delta_log"),
    ],
)
def test_a_store_that_stays_broken_fails_the_step_in_bounded_time_and_changes_nothing(
    lake: Lake, faulty: Lake, proxy: Proxy, fault: Fault, method: str, path: str
) -> None:
    replace(lake, "old")
    before = lake.version("documents")
    broken, started = proxy.rule(fault, method, path, times=None), time.monotonic()
    with pytest.raises(TransientError, match="/lake/documents"):
        replace(faulty, "new")
    assert time.monotonic() - started < 30
    assert proxy.seen(broken) <= 8
    assert (lake.version("documents"), content(lake)) == (before, "dlo")


@pytest.mark.parametrize("times", [1, None], ids=["once", "for ever"])
def test_a_truncated_file_is_an_error_or_read_again_but_never_a_short_table(
    lake: Lake, faulty: Lake, proxy: Proxy, times: int | None
) -> None:
    replace(lake, "abcdef")
    proxy.rule("truncate", "GET", r"/documents/task.*\.parquet", times=times)
    if times is None:
        with pytest.raises((TransientError, DataError)), lake_faults(faulty.uri):
            content(faulty)
    else:
        assert content(faulty) == "abcdef"


# R19: wrong rights


@pytest.mark.parametrize("verb", [replace, append])
def test_a_read_only_identity_reads_but_its_write_is_a_matter_of_settings(
    lake: Lake, settings: Settings, s3: SeaweedFS, verb: Any
) -> None:
    replace(lake, "old")
    before = lake.version("documents")
    keys = {"aws_access_key_id": s3.reader_access_key, "aws_secret_access_key": s3.reader_secret_key}
    reader = Lake(lake.uri, {**settings.storage_options, **keys})
    assert content(reader) == "dlo"
    with pytest.raises(ConfigError, match="/lake/documents.* refuses these credentials") as error:
        verb(reader, "new")
    assert s3.reader_access_key not in str(error.value)
    assert s3.reader_secret_key not in str(error.value)
    assert (lake.version("documents"), content(lake)) == (before, "dlo")


def test_rights_that_are_lost_between_staging_and_commit_leave_the_table_as_it_was(
    lake: Lake, settings: Settings, s3: SeaweedFS
) -> None:
    replace(lake, "old")
    staged = lake.stage("documents", TASK, DAY, [documents("new")], name="part")
    keys = {"aws_access_key_id": s3.reader_access_key, "aws_secret_access_key": s3.reader_secret_key}
    reader = Lake(lake.uri, {**settings.storage_options, **keys})
    with pytest.raises(ConfigError, match="refuses these credentials"):
        reader.replace_partition("documents", TASK, DAY, staged, commit_key="new", manifest=manifest("r1"))
    assert content(lake) == "dlo"


@pytest.mark.parametrize("name", ["aws_access_key_id", "aws_secret_access_key"])
def test_wrong_credentials_are_refused_at_once_without_being_shown(
    lake: Lake, options: dict[str, str], proxy: Proxy, name: str
) -> None:
    asked = proxy.rule("delay", ".*", ".*", times=None, seconds=0)
    with pytest.raises(ConfigError, match="refuses these credentials") as error:
        Lake(lake.uri, {**options, name: "canary0123456789"}).version("documents")
    assert "canary0123456789" not in str(error.value)
    assert proxy.seen(asked) <= 2


# R22: leftovers. In a folder, where a file can be given an age.

WEEK = 7 * 24


def test_compaction_removes_old_leftovers_and_nothing_that_is_live_or_young(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    lake.create_tables()
    replace(lake, "old")
    replaced = parquet(lake)
    replace(lake, "new")
    lake.stage("documents", TASK, NEXT, [documents("x", NEXT)], name="dead")
    dead = parquet(lake, "dead")
    for path in parquet(lake):
        grow_old(path)
    young = lake.stage("documents", TASK, NEXT, [documents("y", NEXT)], name="young")
    lake.compact("documents", retention_hours=WEEK)
    assert not dead & parquet(lake)
    assert replaced <= parquet(lake), "a file is kept for as long after its replacement as readers may need it"
    lake.replace_partition("documents", TASK, NEXT, young, commit_key="y", manifest=manifest("r1", NEXT))
    assert (content(lake, DAY), content(lake, NEXT)) == ("enw", "y")
    assert "".join(sorted(lake.scan("documents", TASK, version=1).collect()["id"])) == "dlo"
    age_the_log(lake)
    lake.compact("documents", retention_hours=WEEK)
    assert not replaced & parquet(lake)
    assert (content(lake, DAY), content(lake, NEXT)) == ("enw", "y")


def parquet(lake: Lake, name: str = "") -> set[Path]:
    return set(Path(lake.table_uri("documents")).glob(f"task=*/partition=*/{name}*.parquet"))


def grow_old(path: Path) -> None:
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 2 * WEEK * 3600))


def age_the_log(lake: Lake) -> None:
    """Move every removal in the log two weeks back."""
    for path in Path(lake.table_uri("documents")).glob("_delta_log/*.json"):
        actions = [json.loads(line) for line in path.read_text().splitlines()]
        for action in actions:
            if "remove" in action:
                action["remove"]["deletionTimestamp"] -= 2 * WEEK * 3600 * 1000
        path.write_text("".join(json.dumps(action) + "\n" for action in actions))


# R24: a damaged log


@pytest.mark.parametrize("damage", ["deleted", "cut"])
def test_a_damaged_log_is_a_loud_error_that_names_the_table(
    lake: Lake, settings: Settings, bucket: str, damage: str
) -> None:
    for ids in ("a", "b", "c"):
        append(lake, ids)
    client = boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        region_name="us-east-1",
        aws_access_key_id=settings.storage_options["aws_access_key_id"],
        aws_secret_access_key=settings.storage_options["aws_secret_access_key"],
    )
    key = "lake/documents/_delta_log/00000000000000000002.json"
    log = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    if damage == "deleted":
        client.delete_object(Bucket=bucket, Key=key)
    else:
        client.put_object(Bucket=bucket, Key=key, Body=log[: len(log) // 2])
    with pytest.raises(DataError, match="/lake/documents: the table is damaged"), lake_faults(lake.uri):
        content(lake)
    with pytest.raises(DataError, match="/lake/documents.*: the table is damaged"):
        append(lake, "d")


def test_a_table_without_its_log_is_told_as_absent(lake: Lake, settings: Settings, bucket: str) -> None:
    with pytest.raises(ConfigError, match="/elsewhere/documents: no Delta table there"):
        Lake(f"s3://{bucket}/elsewhere", settings.storage_options).version("documents")
