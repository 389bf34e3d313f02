"""Ingest: a day's landing files, or its rows of a table, become `documents`, accepted or refused with a reason."""

import datetime
import hashlib
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pyarrow as pa
from pydantic import JsonValue

from llambert_etl.config import LabellingTask, Source, fingerprint
from llambert_etl.config.connections import TableSource
from llambert_etl.documents import hash_text
from llambert_etl.errors import DataError
from llambert_etl.forgotten import Forgotten
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.schemas import TABLES, DocumentStatus
from llambert_etl.settings import Settings
from llambert_etl.sources.clean import CLEANER_VERSION, SeenIds, clean
from llambert_etl.sources.location import is_safe_key
from llambert_etl.sources.objects import Drop, find_drop
from llambert_etl.sources.readers import read_rows
from llambert_etl.sources.rows import Limits, Reason, Record, Refusal, SourceObject
from llambert_etl.sources.table import TableDrop

logger = logging.getLogger(__name__)

# How many days back late files are looked for. Keep landing files longer than this: a day whose files have partly
# expired looks like one whose producer took documents back.
_LATE_DAYS = 7

_CHUNK_ROWS = 20_000
_CHUNK_BYTES = 32 << 20

Row = dict[str, str | None]


def ingest(
    task: LabellingTask, partition: Partition, *, run: str, lake: Lake, settings: Settings, missed: bool = False
) -> Manifest:
    """Ingest the partition, then each past day whose landing files have changed since it was ingested.

    With `missed` also the past days on which no run has ingested. The manifest is the partition's own.
    `facts.late_partitions` names the past days that this run has replaced, in an earlier try too, and
    `facts.late_refused` those that could not be, with the reason: they keep what they held.
    """
    started = datetime.datetime.now(datetime.UTC)
    manifest = ingest_partition(task, partition, run=run, lake=lake, settings=settings)
    refused: dict[str, str] = {}
    for day in late_partitions(task, lake=lake, settings=settings, before=partition, missed=missed):
        try:
            ingest_partition(task, day, run=run, lake=lake, settings=settings, late_for=partition)
        except DataError as error:
            # A past day that is broken must not keep tonight's documents from being labelled.
            logger.warning("%s %s: late files refused: %s", task.name, day, error)
            refused[day] = str(error)
    replaced = _replaced(task, partition, run, lake)
    return manifest.finished(started, facts={**manifest.facts, "late_partitions": replaced, "late_refused": refused})


def ingest_partition(
    task: LabellingTask,
    partition: Partition,
    *,
    run: str,
    lake: Lake,
    settings: Settings,
    late_for: Partition | None = None,
) -> Manifest:
    """Make the partition hold exactly what its landing files or its table hold now; if that is the same, do nothing.

    `late_for` is the day whose ingest has found that this one has changed.
    An empty drop is a commit of no rows. Raise DataError when all that a day has had is gone: documents are never
    erased because a listing came back empty. TransientError when a file changes while it is read.
    """
    started = datetime.datetime.now(datetime.UTC)
    drop = _open(task.source, partition, settings)
    key = drop_key(task, drop) if isinstance(drop, Drop) else None
    last = lake.last_commit("documents", task.name, partition)
    before = last.manifest if last is not None else None
    if key and last is not None and before is not None and lake.holds("documents", task.name, partition, key):
        return _replayed(before, last.version)
    logger.info("ingest %s %s: %s", task.name, partition, drop.location)
    tally = _Tally(task, partition, run, Forgotten(lake, task.name))
    staged = lake.stage("documents", task.name, partition, tally.chunks(drop), name="documents")
    if isinstance(drop, Drop):
        drop.verify_unchanged()
    _refuse_erasure(f"{task.name} {partition}: {drop.location}", tally, before)
    manifest = Manifest(
        step="ingest",
        task=task.name,
        partition=partition,
        run=run,
        rows=tally.rows,
        reasons=dict(sorted(tally.reasons.items())),
        config_hash=task.config_hash,
        facts={"source": str(drop.location), "late_for": late_for, **tally.facts(before)},
    ).finished(started)
    commit = lake.replace_partition(
        "documents", task.name, partition, staged, commit_key=key or tally.key, manifest=manifest
    )
    counted = ", ".join(f"{count} {name}" for name, count in tally.rows.items())
    logger.info("ingest %s %s: %s, at version %s", task.name, partition, counted, commit.version)
    if commit.replayed and commit.manifest is not None:
        return _replayed(commit.manifest, commit.version)
    return manifest.finished(started, versions_written={"documents": commit.version})


def late_partitions(
    task: LabellingTask, *, lake: Lake, settings: Settings, before: Partition, missed: bool = False
) -> list[Partition]:
    """Return the days, of the week before `before`, whose landing files changed since they were ingested.

    With `missed` also the days behind an ingested one that never were, as when nothing ran for some nights. Reads
    listings only: a day without files is as good as expired. A table has none, so whether an ingested day of it has
    changed shows when it is read again, by a backfill.
    """
    ingested = _ingested(task, lake, before)
    days = sorted(ingested)
    if missed:
        days = [day for day in _past_days(before) if ingested and day >= min(ingested)]
    if isinstance(task.source, TableSource):
        return [day for day in days if day not in ingested]
    drops = ((day, find_drop(task.source, day, settings)) for day in days)
    return [
        day for day, drop in drops if drop.objects and not lake.holds("documents", task.name, day, drop_key(task, drop))
    ]


def _past_days(before: Partition) -> list[Partition]:
    end = datetime.date.fromisoformat(before)
    return [Partition((end - datetime.timedelta(days=back)).isoformat()) for back in range(_LATE_DAYS, 0, -1)]


def _ingested(task: LabellingTask, lake: Lake, before: Partition) -> set[Partition]:
    return {day for day in _past_days(before) if lake.commit_key("documents", task.name, day) is not None}


def _replaced(task: LabellingTask, partition: Partition, run: str, lake: Lake) -> list[str]:
    """Return the past days that this run of the partition was the last to replace.

    The log says so, not this try: one that was cut off has committed days which are checked and labelled all the same.
    """
    left, replaced = _ingested(task, lake, partition), []
    for commit in lake.commits("documents", task.name):
        if not left:
            break
        made = commit.manifest
        if made is not None and made.partition in left:
            left.remove(made.partition)
            if (made.run, made.facts.get("late_for")) == (run, partition):
                replaced.append(str(made.partition))
    return sorted(replaced)


def _open(source: Source | TableSource, partition: Partition, settings: Settings) -> Drop | TableDrop:
    if isinstance(source, TableSource):
        return TableDrop(source, partition, settings)
    return find_drop(source, partition, settings)


def _refuse_erasure(where: str, tally: "_Tally", before: Manifest | None) -> None:
    """Raise DataError where nothing is left of what a day has had."""
    if before is None or tally.files or tally.rows["read"]:
        return
    files, rows = before.facts.get("files"), before.rows["read"]
    if files or rows:
        held = f"{files} files" if files else f"{rows} rows"
        raise DataError(
            f"{where} is empty, but held {held} when it was last ingested; put them back, or leave one file without "
            "rows there, such as an empty .jsonl (in a table: one row without a text), if the day's documents are to go"
        )


def drop_key(task: LabellingTask, drop: Drop) -> str:
    """Identify what ingesting a drop gives: its files, how the task reads them, and how they are cleaned."""
    source = task.source.model_dump(mode="json")
    objects: list[JsonValue] = [[_printable(item.uri), item.size, item.etag] for item in drop.objects]
    return fingerprint({"objects": objects, "source": source, "cleaner": CLEANER_VERSION})


def _printable(uri: str) -> str:
    # A file name of the local disk need not be Unicode; a column must be.
    return uri.encode("utf-8", "backslashreplace").decode()


def _replayed(manifest: Manifest, version: int) -> Manifest:
    facts = {**manifest.facts, "replayed": True}
    return manifest.model_copy(update={"facts": facts, "versions_written": {"documents": version}})


class _Tally:
    """The rows of one drop on their way into the lake, and their count."""

    def __init__(self, task: LabellingTask, partition: Partition, run: str, forgotten: Forgotten) -> None:
        self._source = task.source
        self._fixed: Row = {"task": task.name, "partition": str(partition), "run": run}
        self._seen, self._forgotten = SeenIds(), forgotten
        self._content = 0
        self._rows_hash = hashlib.blake2b()
        self._bytes = 0
        self.files = 0
        self._accepted = 0
        self._files_refused = 0
        self.reasons: Counter[str] = Counter()

    @property
    def rows(self) -> dict[str, int]:
        rejected = self.reasons.total()
        return {"read": self._accepted + rejected, "accepted": self._accepted, "rejected": rejected}

    @property
    def key(self) -> str:
        """Identify the rows themselves and how the task reads them, where no version of a file stands for them."""
        source = self._source.model_dump(mode="json")
        return fingerprint({"rows": self._rows_hash.hexdigest(), "source": source, "cleaner": CLEANER_VERSION})

    def facts(self, before: Manifest | None) -> dict[str, JsonValue]:
        """Say what came in, and whether the accepted documents differ from those of the commit that is replaced."""
        content = f"{self._content:016x}"
        return {
            "files": self.files,
            "files_refused": self._files_refused,
            "bytes": self._bytes,
            "empty": not self.files and not self.rows["read"],
            "replayed": False,
            "content": content,
            "content_changed": before is not None and before.facts.get("content") != content,
            "accepted_before": before.rows["accepted"] if before is not None else None,
        }

    def chunks(self, drop: Drop | TableDrop) -> Iterator[pa.Table]:
        """Yield tables bounded in rows and bytes."""
        schema = TABLES["documents"].schema
        held: list[Row] = []
        size = 0
        for row in self._rows(drop):
            held.append(row)
            size += len(row.get("text") or "")
            if len(held) >= _CHUNK_ROWS or size >= _CHUNK_BYTES:
                yield pa.Table.from_pylist(held, schema=schema)
                held, size = [], 0
        if held:
            yield pa.Table.from_pylist(held, schema=schema)

    def _rows(self, drop: Drop | TableDrop) -> Iterator[Row]:
        for source, found in self._read(drop):
            row = self._row(found)
            self._rows_hash.update(repr((row["id"], row["text_hash"], row.get("reason"))).encode())
            yield {**self._fixed, "source": source, **row}

    def _read(self, drop: Drop | TableDrop) -> Iterator[tuple[str, Record | Refusal]]:
        """Yield what the drop holds, each with the file or the table that holds it."""
        match drop, self._source:
            case Drop() as files, Source() as source:
                for item in files.objects:
                    self.files += 1
                    self._bytes += item.size
                    for found in _read(files, item, source):
                        yield _printable(item.uri), found
            case TableDrop() as table, _:
                for found in table.rows():
                    yield table.location, found

    def _row(self, found: Record | Refusal) -> Row:
        if isinstance(found, Refusal):
            self._files_refused += found.reason.startswith("file_")
            return self._rejected(found.place, found.reason, None, None)
        key, text, reason = clean(found, self._source.max_chars)
        if key in self._forgotten:
            return self._rejected(found.place, Reason.FORGOTTEN, None, None)
        text_hash = None if text is None else hash_text(text)
        if reason is None and key is not None and text_hash is not None:
            reason = self._seen.claim(key, text_hash)
        if reason is not None:
            return self._rejected(found.place, reason, key, text_hash)
        self._accepted += 1
        # A sum, so that the order of files does not matter.
        row_hash = hashlib.blake2b(f"{text_hash}{key}".encode(), digest_size=8).digest()
        self._content = (self._content + int.from_bytes(row_hash)) % 2**64
        status = DocumentStatus.ACCEPTED
        return {"id": key, "status": status, "place": found.place, "text": text, "text_hash": text_hash}

    def _rejected(self, place: str, reason: Reason, key: str | None, text_hash: str | None) -> Row:
        self.reasons[reason] += 1
        status = DocumentStatus.REJECTED
        return {"id": key, "status": status, "reason": reason, "place": place, "text_hash": text_hash}


def _read(drop: Drop, item: SourceObject, source: Source) -> Iterator[Record | Refusal]:
    key = item.uri.partition("://")[2].partition("/")[2] if "://" in item.uri else item.uri.removeprefix("/")
    if not is_safe_key(key):
        yield Refusal("line 1", Reason.FILE_UNSAFE_NAME)
        return
    with closing(drop.open(item)) as raw:
        yield from read_rows(raw, item.uri, item.size, source, Limits())
