"""The ids that a task was told to forget, kept as hashes: what comes again under one of them is refused."""

import hashlib
import uuid
from collections.abc import Collection, Iterable

from llambert_etl.errors import TransientError
from llambert_etl.lake import Lake, StagedFiles, collect
from llambert_etl.partition import Partition
from llambert_etl.schemas import TABLES, TableName


class ForgottenMeanwhileError(TransientError):
    """Rows are about documents that were forgotten since they were read."""


class Forgotten:
    """The ids that were forgotten when this was opened."""

    def __init__(self, lake: Lake, task: str) -> None:
        self._lake, self._task = lake, task
        self._hashes = lake.note_names("_forgotten", task)

    def __len__(self) -> int:
        """Return a number that grows each time that something is forgotten."""
        return len(self._hashes)

    def add(self, keys: Iterable[str]) -> None:
        """Note ids, each in a file of its own: two who do so at once lose nothing.

        That it was done is noted too: after a restore an id is forgotten again, and what was staged meanwhile must not
        count.
        """
        self._lake.write_note(f"{self._task}/call-{uuid.uuid4().hex}", "", folder="_forgotten")
        for key in keys:
            self._lake.write_note(f"{self._task}/{_hash(key)}", "", folder="_forgotten")
            self._hashes.add(_hash(key))

    def among(self, keys: Iterable[str | None]) -> set[str]:
        """Return which of some ids are forgotten. Where nothing is, none is looked at."""
        return {key for key in keys if key is not None and _hash(key) in self._hashes} if self._hashes else set()


def forgotten_since(table: TableName, task: str, partition: Partition, staged: StagedFiles, lake: Lake) -> int:
    """Return how many ids of staged rows are forgotten by now: to be asked at each attempt to commit those rows."""
    noted = Forgotten(lake, task)
    if not noted:
        return 0
    ids = collect(lake.scan_staged(table, task, partition, staged).select("id"))["id"]
    return len(noted.among(ids))


def brought_back(table: TableName, task: str, lake: Lake) -> list[str]:
    """Return the forgotten ids of which a table has rows, as after a restore."""
    noted = Forgotten(lake, task)
    if not noted or "id" not in TABLES[table].schema.names:
        return []
    ids = collect(lake.scan(table, task).select("id").unique())["id"]
    return sorted(noted.among(ids))


def refuse_forgotten(table: TableName, task: str, partition: Partition, staged: StagedFiles, lake: Lake) -> None:
    """Raise ForgottenMeanwhileError where staged rows are about documents that were forgotten since they were read."""
    _refuse(forgotten_since(table, task, partition, staged, lake), f"{table} {task} {partition}")


def refuse_rows(table: TableName, task: str, partition: Partition, ids: Collection[str], lake: Lake) -> None:
    """Do the same for rows that are not staged."""
    _refuse(len(Forgotten(lake, task).among(ids)), f"{table} {task} {partition}")


def _refuse(count: int, where: str) -> None:
    if count:
        raise ForgottenMeanwhileError(
            f"{where}: {count} documents were forgotten since this step began; nothing was committed; run the step "
            "again; after a restore, forget them again before that"
        )


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
