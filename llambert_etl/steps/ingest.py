"""Ingest: a day's landing files, or its rows of a table, become `documents`, accepted or refused with a reason."""

import datetime
import logging
from functools import partial

import polars as pl

from llambert_etl.config import LabellingTask
from llambert_etl.corpus.forgotten import Forgotten, refuse_forgotten
from llambert_etl.errors import DataError
from llambert_etl.facts import Ingested, Late, Replayed
from llambert_etl.lake import Lake, collect
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.schemas import DocumentStatus
from llambert_etl.settings import Settings
from llambert_etl.sources.drop import Drop
from llambert_etl.sources.drops import open_drop
from llambert_etl.sources.tally import Tally

logger = logging.getLogger(__name__)

# How many days back late files are looked for. Keep landing files longer than this: a day whose files have partly
# expired looks like one whose producer took documents back.
_LATE_DAYS = 7


def ingest(run: Run, *, lake: Lake, settings: Settings, missed: bool = False) -> Manifest:
    """Ingest the partition, then each past day whose landing files have changed since it was ingested.

    With `missed` also the past days on which no run has ingested. The manifest is the partition's own.
    `facts.late_partitions` names the past days that this run has replaced, in an earlier try too, and
    `facts.late_refused` those that could not be, with the reason: they keep what they held.
    """
    task, partition = run.task, run.partition
    manifest = ingest_partition(run, lake=lake, settings=settings)
    refused: dict[Partition, str] = {}
    for day in late_partitions(task, lake=lake, settings=settings, before=partition, missed=missed):
        try:
            ingest_partition(Run(task, day, run.name), lake=lake, settings=settings, late_for=partition)
        except DataError as error:
            # A past day that is broken must not keep tonight's documents from being labelled.
            logger.warning("%s %s: late files refused: %s", task.name, day, error)
            refused[day] = str(error)
    return run.finished(manifest.telling(Late(late_partitions=_replaced(run, lake), late_refused=refused)))


def ingest_partition(run: Run, *, lake: Lake, settings: Settings, late_for: Partition | None = None) -> Manifest:
    """Make the partition hold exactly what its landing files or its table hold now; if that is the same, do nothing.

    `late_for` is the day whose ingest has found that this one has changed.
    An empty drop is a commit of no rows. Raise DataError when all that a day has had is gone: documents are never
    erased because a listing came back empty, or of other files that hold none. TransientError when a file changes while
    it is read.
    """
    task, partition = run.task, run.partition
    drop = open_drop(task.source, partition, settings)
    empty, key = _why_empty(task, partition, drop), drop.key
    last = lake.last_commit("documents", task.name, partition)
    before = last.manifest if last is not None else None
    if key and last is not None and before is not None and lake.holds("documents", task.name, partition, key):
        return _replayed(before, last.version)
    logger.info("ingest %s %s: %s", task.name, partition, drop.location)
    tally = Tally(run, Forgotten(lake, task.name))
    staged = lake.stage("documents", task.name, partition, tally.chunks(drop), name="documents")
    drop.verify_unchanged()
    where = f"{task.name} {partition}: {drop.location}"
    _refuse_erasure(where, tally, before)
    _refuse_erasure_by_others(where, tally, before, task, partition, lake)
    _warn_of_absent_fields(task, partition, tally)
    found = {"source": str(drop.location), "late_for": late_for, "landing": empty}
    facts = tally.facts(before).model_copy(update=found)
    manifest = run.manifest("ingest", rows=tally.rows, reasons=dict(sorted(tally.reasons.items())), facts=facts)
    commit = lake.replace_partition(
        "documents",
        task.name,
        partition,
        staged,
        commit_key=key or tally.key,
        manifest=manifest,
        still=partial(refuse_forgotten, "documents", task.name, partition, staged, lake),
    )
    counted = ", ".join(f"{count} {name}" for name, count in tally.rows.items())
    logger.info("ingest %s %s: %s, at version %s", task.name, partition, counted, commit.version)
    if commit.replayed and commit.manifest is not None:
        return _replayed(commit.manifest, commit.version)
    return run.finished(manifest, versions_written={"documents": commit.version})


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
    return [day for day in days if _has_come(task, day, lake, settings, known=day in ingested)]


def _has_come(task: LabellingTask, day: Partition, lake: Lake, settings: Settings, *, known: bool) -> bool:
    """Tell whether a day, `known` if it was ingested, has what the lake has not, as far as its drop tells unread."""
    drop = open_drop(task.source, day, settings)
    if drop.key is None:
        return not known
    return bool(drop.pieces) and not lake.holds("documents", task.name, day, drop.key)


def _past_days(before: Partition) -> list[Partition]:
    end = datetime.date.fromisoformat(before)
    return [Partition((end - datetime.timedelta(days=back)).isoformat()) for back in range(_LATE_DAYS, 0, -1)]


def _ingested(task: LabellingTask, lake: Lake, before: Partition) -> set[Partition]:
    return {day for day in _past_days(before) if lake.commit_key("documents", task.name, day) is not None}


def _replaced(run: Run, lake: Lake) -> list[Partition]:
    """Return the past days that this run of the partition was the last to replace.

    The log says so, not this try: one that was cut off has committed days which are checked and labelled all the same.
    """
    left, replaced = _ingested(run.task, lake, run.partition), list[Partition]()
    for commit in lake.commits("documents", run.task.name):
        if not left:
            break
        made = commit.manifest
        if made is not None and made.partition in left:
            left.remove(made.partition)
            if (made.run, Ingested.of(made).late_for) == (run.name, run.partition):
                replaced.append(made.partition)
    return sorted(replaced)


def _why_empty(task: LabellingTask, partition: Partition, drop: Drop) -> str | None:
    """Say why there are no files, where there are none: it may be a quiet day, or an address that nobody writes to."""
    empty = drop.why_empty()
    if empty is not None:
        said = "its folder is not there" if empty == "no_folder" else "nothing in its folder has such a name"
        logger.warning(
            "ingest %s %s: no file at %s: %s; if files were to come, look at the day and at source.uri",
            task.name,
            partition,
            drop.location,
            said,
        )
    return empty


def _refuse_erasure(where: str, tally: Tally, before: Manifest | None) -> None:
    """Raise DataError where nothing is left of what a day has had."""
    if before is None or tally.files or tally.rows["read"]:
        return
    files, rows = Ingested.of(before).files, before.rows["read"]
    if files or rows:
        held = f"{files} files" if files else f"{rows} rows"
        raise DataError(
            f"{where} is empty, but held {held} when it was last ingested; put them back, or leave one of them there "
            "without rows, such as an empty .jsonl (in a table: one row without a text), if the day's documents are to "
            "go"
        )


def _refuse_erasure_by_others(
    where: str, tally: Tally, before: Manifest | None, task: LabellingTask, partition: Partition, lake: Lake
) -> None:
    """Raise DataError where a day had documents, has none now, and no file that gave them can be read and says so."""
    if before is None or not before.rows["accepted"] or tally.rows["accepted"]:
        return
    accepted = lake.scan("documents", task.name, partition).filter(pl.col("status") == DocumentStatus.ACCEPTED)
    gave = collect(accepted.select(pl.col("source").unique().sort()))["source"].to_list()
    if gave and not tally.sources & set(gave):
        raise DataError(
            f"{where}: {tally.files} files without one document stand where {before.rows['accepted']} documents came "
            f"from files that are gone or refused, such as {gave[0].rpartition('/')[2][:60]!r}; put those back, or "
            "leave one of them there without rows if the day's documents are to go"
        )


def _warn_of_absent_fields(task: LabellingTask, partition: Partition, tally: Tally) -> None:
    for field, seen in tally.absent_fields.items():
        wanted = task.source.id if field == "id" else task.source.text
        logger.warning(
            "ingest %s %s: no row has the field %r (source.%s); fields seen: %s",
            task.name,
            partition,
            wanted,
            field,
            seen,
        )


def _replayed(manifest: Manifest, version: int) -> Manifest:
    return manifest.telling(Replayed(replayed=True)).model_copy(update={"versions_written": {"documents": version}})
