"""What a commit of ours carries, its fence and its manifest, and how it is found again in the log."""

import hashlib
import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from deltalake import DeltaTable
from deltalake.transaction import CommitProperties, Transaction

from llambert_etl.errors import DataError
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.schemas import TableName
from llambert_etl.store.storage import Storage

_MANIFEST = "llambert.manifest"
# The fence of all upkeep. Its number is a moment, in milliseconds: files written before it may be deleted already.
UPKEEP = "upkeep"
# A log holds a year of commits, each a file: most questions are answered by the newest few.
_PAGES = (20, 500, None)


class Commit(NamedTuple):
    """A Delta version and the manifest in it. `replayed`: it was there before this call.

    `timestamp` is the writer's, in milliseconds; None for a commit that was not read from the log.
    """

    version: int
    manifest: Manifest | None
    replayed: bool
    timestamp: int | None = None

    def wrote(self, task: str, partition: Partition) -> bool:
        return self.manifest is not None and (self.manifest.task, self.manifest.partition) == (task, partition)


def fence_of(task: str, partition: Partition) -> str:
    """Return the name under which Delta keeps the commit key of a partition."""
    return f"replace/{task}/{partition}"


def key_number(commit_key: str) -> int:
    # Delta's application transactions carry a signed 64-bit number, kept in every checkpoint and never expired.
    return int.from_bytes(hashlib.sha256(commit_key.encode()).digest()[:8]) >> 1


def horizon(delta: DeltaTable) -> int:
    """Return the moment, in milliseconds, before which a file must have been written to be deleted by upkeep."""
    return int(delta.transaction_version(UPKEEP) or 0)


def refuse_lost_end(delta: DeltaTable, known: int) -> None:
    """Raise DataError where a version is known that the log does not reach: Delta takes what is left for the table."""
    if delta.version() < known:
        raise DataError(
            f"{delta.table_uri.removesuffix('/')}: the table is damaged: version {known} was committed, and "
            f"_delta_log/{delta.version() + 1:020d}.json is gone; see the runbook, `restore a table`"
        )


def properties_of(manifest: Manifest, *fences: Transaction, retries: int) -> CommitProperties:
    carried = {_MANIFEST: _serialised(manifest)}
    return CommitProperties(custom_metadata=carried, app_transactions=list(fences), max_commit_retries=retries)


def fences_at(storage: Storage, table: TableName, now: DeltaTable, then: DeltaTable) -> list[Transaction]:
    """Return each fence that was set after the version `then`, with the value that it had there."""
    fences: set[str] = set()
    for version in range(then.version() + 1, now.version() + 1):
        with storage.open(f"{table}/_delta_log/{version:020d}.json") as log:
            actions = [json.loads(line) for line in log.readall().splitlines()]
        fences.update(action["txn"]["appId"] for action in actions if "txn" in action)
    fences.discard(UPKEEP)  # what was deleted stays deleted
    # Delta knows no way to take a transaction back: a fence that was not there yet gets a number that no key has.
    none = key_number(f"restored at version {now.version()}")
    before = {fence: then.transaction_version(fence) for fence in sorted(fences)}
    return [Transaction(fence, none if value is None else value) for fence, value in before.items()]


def read_commits(storage: Storage, table: TableName, delta: DeltaTable) -> Iterator[Commit]:
    """Yield the commits up to the version of `delta` that carry a manifest and still count, newest first.

    Those that a restore has undone are left out. The log is read no further than the caller goes.
    """
    newest = _info(storage, table, delta.version()) or {}
    seen, undone_above = 0, math.inf
    for limit in _PAGES:
        history = delta.history(limit)
        # What others have committed since is in it too, and deltalake numbers it all as if it were not.
        later = next((number for number, entry in enumerate(history) if entry.items() >= newest.items()), 0)
        for number, entry in enumerate(history[later + seen :], seen):
            version = delta.version() - number
            if version > undone_above:
                continue
            if entry.get("operation") == "RESTORE":
                undone_above = float(entry["operationParameters"].get("version", math.inf))
            if _MANIFEST in entry:
                manifest = Manifest.model_validate_json(entry[_MANIFEST])
                yield Commit(version, manifest, replayed=True, timestamp=int(entry["timestamp"]))
        seen = len(history) - later
        if limit is None or seen < limit:
            return


def version_of(storage: Storage, table: TableName, before: DeltaTable, manifest: Manifest) -> int:
    """Return the version after `before` that carries `manifest`: another writer's may already be newer."""
    wanted, version = _serialised(manifest), before.version()
    while (info := _info(storage, table, version + 1)) is not None:
        version += 1
        if info.get(_MANIFEST) == wanted:
            break
    return version


def was_committed(storage: Storage, table: TableName, before: DeltaTable, file: str) -> bool:
    """Tell whether a version after `before` names a staged file, whose name no other has."""
    name, version = file.rpartition("/")[2].encode(), before.version() + 1
    while (log := storage.read(f"{table}/_delta_log/{version:020d}.json")) is not None:
        if name in log:
            return True
        version += 1
    return False


def _info(storage: Storage, table: TableName, version: int) -> dict[str, Any] | None:
    """Return what the log says of a version's commit; None where there is no such version."""
    log = storage.read(f"{table}/_delta_log/{version:020d}.json")
    if log is None:
        return None
    infos = (json.loads(line).get("commitInfo") for line in log.splitlines())
    return next((info for info in infos if info is not None), {})


def _serialised(manifest: Manifest) -> str:
    # One half of a character, as of a file's name that is no UTF-8, and no later step could read the log any more.
    said = json.dumps(manifest.model_dump(mode="json"), ensure_ascii=False).encode(errors="replace")
    return json.dumps(json.loads(said), sort_keys=True)
