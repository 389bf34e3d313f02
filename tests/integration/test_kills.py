"""The lake when its writer is killed, paused, raced or lied to: every fault at an exact request, on a real store."""

import os
import signal
from collections.abc import Generator
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from llambert_etl.errors import TransientError
from llambert_etl.lake import Lake
from llambert_etl.lake.definitions import PARTITION_COLUMNS, TABLE_PROPERTIES
from llambert_etl.partition import Partition
from llambert_etl.schemas import TABLES
from llambert_etl.settings import Settings
from tests.fakes.proxy import COMMIT, Fault, Proxy
from tests.given.annotating import RuleAnnotator, even, ingest, run_annotate
from tests.given.documents import DAY, NEXT, TASK, append, content, documents, manifest, replace
from tests.given.tasks import make_task
from tests.processes.children import Child, race

LOST = ["500_after", "drop_after"]
TRANSIENT = TransientError.exit_code


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
    lake: Lake, proxied: dict[str, str], proxy: Proxy, verb: Any
) -> None:
    replace(lake, "old")
    before = lake.version("documents")
    with Child(verb, lake.uri, proxied, "new", "new") as writer:
        proxy.rule("kill_before", "PUT", COMMIT, pid=writer.ready().pid)
        writer.go()
        assert writer.wait() == -signal.SIGKILL
    assert (lake.version("documents"), content(lake)) == (before, "dlo")
    with Child(verb, lake.uri, proxied, "new", "new") as again:
        assert race([again]) == [False]
    assert content(lake) == ("enw" if verb is replacing else "delnow")


@pytest.mark.parametrize("verb", VERBS)
def test_a_writer_killed_after_its_commit_is_found_to_be_done_by_the_next(
    lake: Lake, proxied: dict[str, str], proxy: Proxy, verb: Any
) -> None:
    with Child(verb, lake.uri, proxied, "new", "new") as writer:
        proxy.rule("kill_after", "PUT", COMMIT, pid=writer.ready().pid)
        writer.go()
        assert writer.wait() == -signal.SIGKILL
    before = lake.version("documents")
    assert content(lake) == "enw"
    with Child(verb, lake.uri, proxied, "new", "new") as again:
        assert race([again]) == [True]
    assert (lake.version("documents"), content(lake)) == (before, "enw")


def test_a_writer_killed_while_it_stages_leaves_nothing_that_a_reader_sees(
    lake: Lake, proxied: dict[str, str], proxy: Proxy
) -> None:
    with Child(replacing, lake.uri, proxied, "new", "new") as writer:
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


@pytest.mark.parametrize("fault", LOST)
def test_answers_whose_commit_lost_its_reply_are_not_taken_for_another_runs(
    lake: Lake, faulty: Lake, proxy: Proxy, fault: Fault
) -> None:
    ingest(lake, make_task(), DAY, range(4))
    proxy.rule(fault, "PUT", COMMIT)
    done = run_annotate(faulty, RuleAnnotator(even))
    assert done.rows == {"read": 4, "labelled": 4, "unparsed": 0, "failed": 0, "reused": 0}
    assert done.versions_written == {"annotations": lake.version("annotations")}


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
    lake: Lake, proxied: dict[str, str], proxy: Proxy
) -> None:
    writers, before = 3, lake.version("documents")
    proxy.rule("gather", "PUT", COMMIT, times=writers)
    outcomes = run([(staged_then_replacing, lake.uri, proxied, "new", "new")] * writers)
    assert sorted(outcomes) == [False] + [True] * (writers - 1)
    assert (lake.version("documents"), content(lake)) == (before + 1, "enw")


def test_of_racing_replacements_with_other_content_one_wins_and_the_others_may_try_again(
    lake: Lake, proxied: dict[str, str], proxy: Proxy
) -> None:
    replace(lake, "old")
    before = lake.version("documents")
    proxy.rule("gather", "PUT", COMMIT, times=3)
    outcomes = run([(staged_then_replacing, lake.uri, proxied, name, name) for name in ("abc", "def", "ghi")])
    assert sorted(outcomes) == [False, TRANSIENT, TRANSIENT]
    assert lake.version("documents") == before + 1
    assert content(lake) == ("abc", "def", "ghi")[outcomes.index(False)]


def test_racing_replacements_of_other_days_all_win_though_each_removes_files(
    lake: Lake, proxied: dict[str, str], proxy: Proxy
) -> None:
    days = (DAY, NEXT, Partition("2026-11-12"))
    for day in days:
        list(replacing_day(lake.uri, proxied, day, "old"))
    before = lake.version("documents")
    proxy.rule("gather", "PUT", COMMIT, times=len(days))
    outcomes = run([(replacing_day, lake.uri, proxied, day, "new") for day in days])
    assert sorted(outcomes) == [before + 1, before + 2, before + 3]
    assert [content(lake, day) for day in days] == ["enw"] * len(days)


def test_racing_appends_of_overlapping_rows_add_each_row_once(
    lake: Lake, proxied: dict[str, str], proxy: Proxy
) -> None:
    proxy.rule("gather", "PUT", COMMIT, times=3)
    outcomes = run([(appending, lake.uri, proxied, name, name) for name in ("ab", "bc", "cd")])
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
    lake: Lake, proxied: dict[str, str], proxy: Proxy
) -> None:
    replace(lake, "old")
    with Child(replacing, lake.uri, proxied, "zombie", "zombie") as zombie:
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
    lake: Lake, proxied: dict[str, str]
) -> None:
    replace(lake, "old")
    with Child(staged_then_replacing, lake.uri, proxied, "zombie", "zombie") as zombie:
        os.kill(zombie.ready().pid, signal.SIGSTOP)
        replace(lake, "new")
        zombie.go()
        zombie.resume()
        assert zombie.result() == TRANSIENT
        assert "another writer replaced it" in zombie.errors()
    assert content(lake) == "enw"


def test_an_append_paused_at_its_commit_adds_only_what_its_successor_left_out(
    lake: Lake, proxied: dict[str, str], proxy: Proxy
) -> None:
    with Child(appending, lake.uri, proxied, "ab", "zombie") as zombie:
        pause = proxy.rule("pause", "PUT", COMMIT, pid=zombie.ready().pid)
        zombie.go()
        assert proxy.reached(pause)
        append(lake, "bc")
        zombie.resume()
        proxy.release(pause)
        assert zombie.result() is False
    assert content(lake) == "abc"


# R12: the first run of all


def test_six_processes_may_create_the_tables_at_once_and_each_is_defined_once(
    bucket: str, settings: Settings, proxied: dict[str, str], proxy: Proxy
) -> None:
    uri = f"s3://{bucket}/fresh"
    proxy.rule("gather", "PUT", r"/documents/_delta_log/0+\.json", times=6)
    assert all(isinstance(outcome, int) and outcome != TRANSIENT for outcome in run([(creating, uri, proxied)] * 6))
    lake = Lake(uri, settings.storage_options)
    for table, declared in TABLES.items():
        delta = lake.open(table)
        assert [entry["operation"] for entry in delta.history()].count("CREATE TABLE") == 1
        assert pa.schema(delta.schema().to_arrow()) == declared.schema
        assert delta.metadata().partition_columns == PARTITION_COLUMNS
        assert delta.metadata().configuration == TABLE_PROPERTIES
        assert delta.version() == (1 if table == "documents" else 0)
    assert content(lake) == "a"
