"""What merges and deletes files does so beside readers, writers and itself, and by a clock that may be wrong."""

import datetime
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from llambert_etl.errors import DataError, TransientError
from llambert_etl.lake import RETENTION, Lake, collect
from llambert_etl.lake.upkeep import delete_old_files, merge_small_files, oldest_kept
from tests.fakes.proxy import COMMIT, Proxy
from tests.given.documents import DAY, NEXT, TASK, append, content, documents, manifest, replace

DAYS = RETENTION.days


@pytest.fixture
def folder(tmp_path: Path) -> Lake:
    """A lake in a folder, where a file can be given an age."""
    lake = Lake(str(tmp_path / "lake"))
    lake.create_tables()
    return lake


@pytest.fixture
def through(lake: Lake, proxied: dict[str, str]) -> Lake:
    """`lake` through the proxy, with time enough to be held there."""
    return Lake(lake.uri, proxied)


def parquet(lake: Lake, name: str = "") -> set[Path]:
    return set(Path(lake.table_uri("documents")).glob(f"task=*/partition=*/{name}*.parquet"))


def grow_old(*paths: Path) -> None:
    for path in paths:
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 2 * RETENTION.total_seconds()))


def age_the_log(lake: Lake) -> None:
    """Move every removal in the log two weeks back."""
    for path in Path(lake.table_uri("documents")).glob("_delta_log/*.json"):
        actions = [json.loads(line) for line in path.read_text().splitlines()]
        for action in actions:
            if "remove" in action:
                action["remove"]["deletionTimestamp"] -= 2 * RETENTION.total_seconds() * 1000
        path.write_text("".join(json.dumps(action) + "\n" for action in actions))


def delete(lake: Lake, named: set[str] = frozenset()) -> int:  # type: ignore[assignment]
    return delete_old_files(lake, "documents", oldest_kept(lake, DAYS), named)


@contextmanager
def held_at_its_commit(proxy: Proxy, work: Callable[[], object], nth: int = 1) -> Iterator[Future[object]]:
    """Run `work` through the proxy up to its nth commit; it goes on when the block has ended."""
    commit = proxy.rule("delay", "PUT", COMMIT, nth=nth)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            assert proxy.reached(commit)
            yield future
        finally:
            proxy.release(commit)


# What goes and what stays


def test_upkeep_removes_old_leftovers_and_nothing_that_is_live_or_young(folder: Lake) -> None:
    replace(folder, "old")
    replaced, step = parquet(folder), folder.snapshot("documents")
    replace(folder, "new")
    folder.stage("documents", TASK, NEXT, [documents("x", NEXT)], name="dead")
    dead = parquet(folder, "dead")
    grow_old(*parquet(folder))
    young = folder.stage("documents", TASK, NEXT, [documents("y", NEXT)], name="young")
    before = step.scan("documents", TASK)  # as a step holds it, and reads later
    assert delete(folder) == 1
    assert not dead & parquet(folder)
    assert replaced <= parquet(folder), "a file is kept for as long after its replacement as readers may need it"
    folder.replace_partition("documents", TASK, NEXT, young, commit_key="y", manifest=manifest("r1", NEXT))
    assert (content(folder, DAY), content(folder, NEXT)) == ("enw", "y")
    assert "".join(sorted(before.collect()["id"])) == "dlo"
    age_the_log(folder)
    assert delete(folder) == 1
    with pytest.raises(DataError, match="a file is gone that this version of the table needs: it is older than"):
        collect(before)
    assert not replaced & parquet(folder)
    assert (content(folder, DAY), content(folder, NEXT)) == ("enw", "y")


def test_a_deleted_file_is_counted_once_and_upkeep_with_nothing_to_do_makes_no_version(folder: Lake) -> None:
    replace(folder, "old")
    replace(folder, "new")
    grow_old(*parquet(folder))
    age_the_log(folder)
    before = folder.version("documents")
    assert [delete(folder) for _ in range(3)] == [1, 0, 0]
    assert folder.version("documents") == before + 1
    assert merge_small_files(folder, "documents") == 0
    assert folder.version("documents") == before + 1


@pytest.mark.parametrize("days", [-8, 8], ids=["the store is behind", "the store is ahead"])
def test_a_clock_that_is_wrong_deletes_nothing_young(lake: Lake, through: Lake, proxy: Proxy, days: int) -> None:
    replace(lake, "old")
    replace(lake, "new")
    young = lake.stage("documents", TASK, NEXT, [documents("x", NEXT)], name="young")
    proxy.rule("shift", "(GET|HEAD)", ".*", times=None, seconds=days * 86400)
    assert abs(through.storage.now() - datetime.datetime.now(datetime.UTC)) > RETENTION
    assert delete(through) == 0
    lake.replace_partition("documents", TASK, NEXT, young, commit_key="y", manifest=manifest("r1", NEXT))
    assert "".join(sorted(lake.scan("documents", TASK, version=1).collect()["id"])) == "dlo"
    assert content(lake) == "enwx"


# Staged files and upkeep: whatever comes between staging and commit, no version names a file that is gone


@pytest.mark.parametrize("what", ["gone", "cut", "passed over"])
def test_a_staged_file_that_is_not_there_any_more_is_never_committed(folder: Lake, what: str) -> None:
    replace(folder, "old")
    folder.stage("documents", TASK, NEXT, [documents("x", NEXT)], name="dead")
    staged = folder.stage("documents", TASK, DAY, [documents("new")], name="part")
    file = Path(folder.table_uri("documents"), staged.files[0].key)
    if what == "gone":
        file.unlink()
    elif what == "cut":
        os.truncate(file, 100)
    else:  # upkeep has decided to delete what is as old, and may do so at any moment
        grow_old(*parquet(folder, "dead"))
        delete(folder)
        grow_old(file)
    before = folder.version("documents")
    assert folder.missing("documents", staged) == [staged.files[0].key]
    with pytest.raises(TransientError, match="1 of 1 staged files are gone.* run the step again"):
        folder.replace_partition("documents", TASK, DAY, staged, commit_key="new", manifest=manifest("r1"))
    assert (folder.version("documents"), content(folder)) == (before, "dlo")


def test_files_deleted_between_the_look_and_the_commit_are_not_committed(
    lake: Lake, through: Lake, proxy: Proxy
) -> None:
    replace(lake, "old")
    staged = lake.stage("documents", TASK, DAY, [documents("new")], name="part")

    def commit() -> None:
        through.replace_partition("documents", TASK, DAY, staged, commit_key="new", manifest=manifest("r1"))

    with held_at_its_commit(proxy, commit) as writer:
        proxy.rule("shift", "(GET|HEAD)", "^(?!.*_clock)", times=None, seconds=-14 * 86400)
        assert delete(through) == 1
    with pytest.raises(TransientError, match="staged files are gone"):
        writer.result()
    assert content(lake) == "dlo"


def test_what_a_run_that_may_be_published_has_staged_stays(folder: Lake) -> None:
    staged = folder.stage("documents", TASK, DAY, [documents("new")], name="part")
    folder.stage("documents", TASK, NEXT, [documents("x", NEXT)], name="dead")
    grow_old(*parquet(folder, "dead"))
    grow_old(*parquet(folder))  # the older of the two goes
    assert delete(folder, {file.key for file in staged.files}) == 1
    folder.replace_partition("documents", TASK, DAY, staged, commit_key="new", manifest=manifest("r1"))
    assert content(folder) == "enw"


# R25: compaction beside writers


def test_a_replacement_beside_a_compaction_leaves_none_of_the_rows_that_it_replaces(
    lake: Lake, through: Lake, proxy: Proxy
) -> None:
    for each in "abc":
        append(lake, each)
    with held_at_its_commit(proxy, lambda: replace(through, "new")) as writer:
        assert lake.open("documents").optimize.compact()["numFilesRemoved"] == 3  # as any tool may do it
    assert writer.result() is False
    assert content(lake) == "enw"


@pytest.mark.parametrize("verb", [replace, append])
def test_a_compaction_beside_a_writer_brings_back_nothing_and_loses_nothing(
    lake: Lake, through: Lake, proxy: Proxy, verb: Callable[[Lake, str], bool]
) -> None:
    for each in "abc":
        append(lake, each)
    with held_at_its_commit(proxy, lambda: merge_small_files(through, "documents"), nth=2) as merging:
        verb(lake, "new")
    assert merging.result() in (0, 3)
    assert content(lake) == ("enw" if verb is replace else "abcenw")


def test_of_two_compactions_at_once_one_merges_and_no_row_is_there_twice(
    lake: Lake, through: Lake, proxy: Proxy
) -> None:
    for each in "abc":
        append(lake, each)
    with held_at_its_commit(proxy, lambda: merge_small_files(through, "documents"), nth=2) as merging:
        assert merge_small_files(lake, "documents") == 3
    assert merging.result() == 0
    assert content(lake) == "abc"
