"""Import gold: labels given by people, checked row by row before any of them counts."""

import datetime
import hashlib
import logging
from collections import Counter
from functools import partial
from pathlib import Path

import polars as pl
import pyarrow as pa

from llambert_etl.config import LabellingTask, fingerprint
from llambert_etl.corpus.documents import among, as_of, hash_text, verified
from llambert_etl.corpus.forgotten import Forgotten, refuse_forgotten
from llambert_etl.corpus.gold import refuse_other_source, split_of
from llambert_etl.corpus.rare import tell_gold
from llambert_etl.errors import ConfigError, DataError
from llambert_etl.facts import Replayed
from llambert_etl.lake import Lake, Snapshot, collect
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.schemas import TABLES
from llambert_etl.settings import Settings
from llambert_etl.sources.clean import CLEANER_VERSION, clean
from llambert_etl.sources.files import Listing
from llambert_etl.sources.gold import MAX_BYTES, GoldRow, parse_gold
from llambert_etl.sources.records import MISSING, Reason, Record
from llambert_etl.wording import heading, is_unicode, printable, short, shown

logger = logging.getLogger(__name__)

_STEP = "gold import"

# Below this, neither a metric nor a gate means anything.
MIN_ROWS = 10
SPLITS = ("train", "test")


def import_gold(run: Run, file: Path | str, *, lake: Lake, settings: Settings) -> Manifest:
    """Make the partition hold the gold of one file; nothing where the last import as of this day was of the same file.

    `file` is Parquet, CSV or JSON lines with `id` and `label`, and where it has them `text`, `split`, `annotator` and
    `labelled_at`. A text that is not there is that of the document of this id as of the partition. A label corrected in
    a later partition wins for readers. Raise DataError naming the file, the row and the fix, with nothing written.
    """
    task, partition = run.task, run.partition
    name, content = str(file), _content(file, settings)
    key = _commit_key(task, content)
    if (imported := _imported(task, lake, partition, key)) is not None:
        return imported
    refuse_other_source(task, lake, partition, _STEP)
    forgotten = Forgotten(lake, task.name)
    parsed = parse_gold(content, name)
    keys = [clean(Record("", row.get("id", MISSING), MISSING), task.source.max_chars).id for row in parsed]
    gone = forgotten.among(keys)
    found = [row for row, key in zip(parsed, keys, strict=True) if key not in gone]
    rows = _Rows(task, name).checked(found)
    versions: dict[str, int] = {}
    if any(row["text"] is None for row in rows):
        documents = lake.snapshot("documents")
        versions = documents.versions
        _add_texts(rows, task, name, partition, documents)
    staged = lake.stage("gold", task.name, partition, [_table(rows, run)], name="gold")
    manifest = run.manifest(
        _STEP,
        rows={"read": len(rows), **{split: sum(row["split"] == split for row in rows) for split in SPLITS}},
        versions_read=versions,
        facts={
            "file": printable(Path(name).name),
            "labels": {label: sum(row["label"] == label for row in rows) for label in task.label_names},
            "forgotten": len(parsed) - len(found),
            "replayed": False,
        },
    )
    judged = pl.DataFrame([(row["label"], row["split"]) for row in rows], schema=["label", "split"], orient="row")
    tell_gold(task, f"gold {task.name} {partition}", judged)
    still = partial(refuse_forgotten, "gold", task.name, partition, staged, lake)
    commit = lake.replace_partition(
        "gold", task.name, partition, staged, commit_key=key, manifest=manifest, still=still
    )
    logger.info("gold %s %s: %s rows from %s", task.name, partition, len(rows), printable(name))
    return run.finished(manifest, versions_written={"gold": commit.version})


def _commit_key(task: LabellingTask, content: bytes) -> str:
    rules = {"labels": list(task.label_names), "max_chars": task.source.max_chars, "cleaner": CLEANER_VERSION}
    return fingerprint({"sha256": hashlib.sha256(content).hexdigest(), "rules": rules})


def _imported(task: LabellingTask, lake: Lake, partition: Partition, key: str) -> Manifest | None:
    """Return the account of the last import as of the partition where it is the one of `key`.

    Under a day of its own the same file would win over what people have corrected since. Only the last import counts:
    to go back to an older file is an import.
    """
    for day in reversed(lake.partitions("gold", task.name)):
        if day > partition or (last := lake.last_commit("gold", task.name, day)) is None or last.manifest is None:
            continue
        if lake.holds("gold", task.name, day, key):
            there = last.manifest.telling(Replayed(replayed=True))
            return there.model_copy(update={"versions_written": {"gold": last.version}})
        if last.manifest.step == _STEP:
            break
    return None


def _content(file: Path | str, settings: Settings) -> bytes:
    """Read a file that the caller names on this machine, or an object that the allow-list permits."""
    if isinstance(file, str) and "://" in file:
        found = Listing(file, settings)
        if len(found.objects) != 1:
            raise ConfigError(f"gold {file!r}: found {len(found.objects)} files there, expected one; mend the address")
        _check_size(file, found.objects[0].size)
        with found.open(found.objects[0]) as raw:
            return raw.read()
    try:
        _check_size(str(file), Path(file).stat().st_size)
        return Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(f"gold {str(file)!r} cannot be read: {error.strerror}; mend the path") from error


def _check_size(name: str, size: int) -> None:
    if size > MAX_BYTES:
        raise DataError(f"gold {name!r} has {size} bytes, at most {MAX_BYTES} are read; gold is a sample, not a corpus")


class _Rows:
    """The rules of a gold file."""

    def __init__(self, task: LabellingTask, name: str) -> None:
        self._task, self._name = task, name

    def checked(self, found: list[GoldRow]) -> list[GoldRow]:
        """Return clean rows. Raise DataError for the first fault."""
        for column in ("id", "label"):
            if found and column not in found[0]:
                raise DataError(
                    f"gold {self._name!r}: column {column!r} is missing, {heading(found[0], ('id', 'label', 'text'))}"
                )
        self._check_known(found)
        if len(found) < MIN_ROWS:
            raise DataError(f"gold {self._name!r}: {len(found)} rows, at least {MIN_ROWS} are needed; label more")
        rows = [self._row(number, row) for number, row in enumerate(found, 1)]
        self._check_ids(rows)
        self._check_labels(rows)
        return rows

    def _check_known(self, found: list[GoldRow]) -> None:
        """Before all else: labels of another task say that the file, or the task file, is the wrong one."""
        unknown = [
            (number, row.get("label"))
            for number, row in enumerate(found, 1)
            if row.get("label") not in self._task.label_names
        ]
        if unknown:
            (number, label), others = unknown[0], len(unknown) - 1
            raise DataError(
                f"gold {self._name!r} row {number}: label {shown(label)} is not one of {list(self._task.labels)}"
                f"{f' (nor are those of {others} more rows)' if others else ''}; mend it or the task file"
            )

    def _row(self, number: int, row: GoldRow) -> GoldRow:
        where = f"gold {self._name!r} row {number}"
        given = {name: value for name, value in row.items() if value is not None and value != ""}
        cleaned = clean(Record("", row.get("id", MISSING), given.get("text", MISSING)), self._task.source.max_chars)
        if cleaned.id is None or cleaned.reason not in (None, Reason.TEXT_MISSING):
            raise DataError(f"{where}: {cleaned.reason}; mend or remove the row")
        split = given.get("split", split_of(cleaned.id))
        if split not in SPLITS:
            raise DataError(f"{where}: split {shown(split)} is not one of {list(SPLITS)}; mend it or leave it out")
        annotator = given.get("annotator")
        if annotator is not None and not (isinstance(annotator, str) and is_unicode(annotator)):
            raise DataError(f"{where}: annotator must be a string of whole characters, found {shown(annotator)}")
        moment = _moment(given.get("labelled_at"), where)
        return {
            "id": cleaned.id,
            "text": cleaned.text,
            "label": row["label"],
            "split": split,
            "annotator": annotator,
            "labelled_at": moment,
        }

    def _check_ids(self, rows: list[GoldRow]) -> None:
        for key, count in Counter(str(row["id"]) for row in rows).items():
            if count > 1:
                numbers = [number for number, row in enumerate(rows, 1) if row["id"] == key][:5]
                raise DataError(
                    f"gold {self._name!r}: id {short(key)} stands in rows {numbers}; keep one label for each id"
                )

    def _check_labels(self, rows: list[GoldRow]) -> None:
        given = {row["label"] for row in rows}
        if absent := [label for label in self._task.labels if label not in given]:
            raise DataError(
                f"gold {self._name!r}: no row has the label {absent}; a gate cannot judge what it never sees"
            )


def _moment(given: object, where: str) -> datetime.datetime | None:
    """Parse a moment with its zone: a local time means another instant on every machine."""
    if given is None:
        return None
    try:
        moment = given if isinstance(given, datetime.datetime) else datetime.datetime.fromisoformat(str(given))
        if moment.tzinfo is not None:
            return moment.astimezone(datetime.UTC)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{where}: labelled_at {shown(given)} is no moment; write 2026-11-10T09:30:00Z") from error
    raise DataError(f"{where}: labelled_at {shown(given)} has no time zone; write 2026-11-10T09:30:00Z")


def _add_texts(rows: list[GoldRow], task: LabellingTask, name: str, partition: Partition, lake: Snapshot) -> None:
    wanted = pl.Series("id", [row["id"] for row in rows if row["text"] is None], dtype=pl.String)
    found = collect(among(as_of(lake, task.name, partition), wanted).select("id", "text", "text_hash"))
    texts = dict(verified(found, "documents").select("id", "text").iter_rows())
    for number, row in enumerate(rows, 1):
        if row["text"] is None:
            row["text"] = texts.get(row["id"])
        if row["text"] is None:
            raise DataError(
                f"gold {name!r} row {number}: no text, and no document {short(str(row['id']))} as of {partition}; "
                "add a text column, or ingest the document first"
            )


def _table(rows: list[GoldRow], run: Run) -> pa.Table:
    fixed = {"task": run.task.name, "partition": str(run.partition), "run": run.name}
    full = [{**row, **fixed, "text_hash": hash_text(str(row["text"]))} for row in rows]
    return pa.Table.from_pylist(full, schema=TABLES["gold"].schema)
