"""The log of a table: each commit of a task is found, however many came after it."""

from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from llambert_etl.lake import Lake, tables
from llambert_etl.partition import Partition
from tests.given.documents import DAY, NEXT, TASK, append, documents, manifest, replace


def test_the_commit_of_a_day_is_found_behind_those_of_other_days(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    lake.create_tables()
    replace(lake, "old")

    def commit(number: int) -> None:
        staged = lake.stage("documents", TASK, NEXT, [documents("x", NEXT)], name="part")
        key, run = f"key {number}", manifest(f"run {number}", NEXT)
        lake.replace_partition("documents", TASK, NEXT, staged, commit_key=key, manifest=run)

    for number in range(25):
        commit(number)
    found = lake.last_commit("documents", TASK, DAY)
    assert found is not None
    assert (found.version, found.manifest) == (1, manifest("r1"))
    assert lake.last_commit("documents", TASK, Partition("2026-11-12")) is None
    commits = lake.commits("documents", TASK)
    seen = [next(commits)]
    commit(25)  # another writer's, while we read
    seen += commits
    assert [each.version for each in seen] == list(range(26, 0, -1))
    assert [each.manifest and each.manifest.run for each in seen] == [*(f"run {n}" for n in range(24, -1, -1)), "r1"]
    assert list(lake.commits("documents", "other")) == []


def test_a_commit_whose_account_is_no_unicode_can_be_read(tmp_path: Path) -> None:
    """A file's name need not be, and one such account would hide all that the table's log says."""
    lake = Lake(str(tmp_path / "lake"))
    lake.create_tables()
    staged = lake.stage("documents", TASK, DAY, [documents("x", DAY)], name="part")
    lake.replace_partition("documents", TASK, DAY, staged, commit_key="k", manifest=manifest("r\udcff \U0001f600"))
    found = lake.last_commit("documents", TASK, DAY)
    assert found is not None
    assert (found.version, found.manifest) == (1, manifest("r? \U0001f600"))


def test_commits_of_other_threads_while_a_table_is_opened_are_no_lost_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(str(tmp_path / "lake"))
    lake.create_tables()
    append(lake, "a")
    others = iter("bcd")
    monkeypatch.setattr(tables, "DeltaTable", lambda *args, **options: _beside(lake, next(others, ""), args, options))
    assert lake.version("documents") >= 1


def _beside(lake: Lake, id_of_another: str, args: tuple[str, ...], options: dict[str, Any]) -> DeltaTable:
    """Open a table while another thread, which has the same lake, commits to it."""
    opened = DeltaTable(*args, **options)
    if id_of_another:
        with pytest.MonkeyPatch.context() as unpatched:
            unpatched.setattr(tables, "DeltaTable", DeltaTable)
            append(lake, id_of_another)
    return opened
