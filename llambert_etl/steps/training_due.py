"""Decide whether a partition's new documents are reason enough to train again."""

import datetime

import polars as pl

from llambert_etl.config import LabellingTask
from llambert_etl.facts import Due
from llambert_etl.lake import Lake, collect
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.schemas import DocumentStatus


def training_due(run: Run, *, lake: Lake, trained: Partition | None, force: bool = False) -> Manifest:
    """Return in `facts` whether a retrain as of `partition` is due, and why.

    `trained` is the last partition at which a retrain came to a decision; one that failed on the way does not count.
    """
    task, partition = run.task, run.partition
    documents, weekly = _Documents(task.name, lake), _latest(task, partition)
    days = [day for day in documents.days if day <= partition]
    older = [day for day in days if trained is not None and day <= trained]
    new = documents.accepted(days[len(older) :])
    fresh, waiting = sum(new.values()), sum(rows for day, rows in new.items() if day <= weekly)
    known = documents.at_least(task.sample_size(), older)
    due, reason = _decide(task, partition, trained, known, fresh, weekly if waiting else None, force)
    facts = Due(due=due, reason=reason, new_documents=fresh, trained_upto=trained)
    return run.manifest("training-due", facts=facts)


class _Documents:
    """Accepted documents, counted of no more days than a question needs."""

    def __init__(self, task: str, lake: Lake) -> None:
        self._task, self._tables = task, lake.snapshot("documents")
        self.days = self._tables.partitions("documents", task)

    def accepted(self, days: list[Partition]) -> dict[Partition, int]:
        among = pl.col("partition").is_in([str(day) for day in days])
        rows = self._tables.scan("documents", self._task).filter(among, pl.col("status") == DocumentStatus.ACCEPTED)
        return {Partition(day): count for day, count in collect(rows.group_by("partition").len()).iter_rows()}

    def at_least(self, wanted: int, days: list[Partition]) -> int:
        """Return how many the days have, or a number from `wanted` on where they have as many."""
        known, size = 0, 1
        while days and known < wanted:
            known += sum(self.accepted(days[-size:]).values())
            days, size = days[:-size], 2 * size
        return known


def _decide(
    task: LabellingTask,
    partition: Partition,
    trained: Partition | None,
    known: int,
    fresh: int,
    weekly: Partition | None,
    force: bool,
) -> tuple[bool, str]:
    """Return whether training is due, and why. `weekly`: the last day of the week's, where documents waited for it."""
    if force:
        return True, "asked for"
    if trained is None:
        return fresh > 0, f"nothing trained yet, {fresh} documents wait"
    if partition <= trained:
        return False, f"already trained as of {trained}"
    counted = f"{fresh} new documents since {trained}"
    if fresh == 0:
        return False, counted
    if fresh >= task.retrain.or_new_documents:
        return True, counted
    # A young corpus: the first champion has learnt from fewer documents than the task asks for.
    wanted = task.sample_size()
    if known < wanted and fresh >= known:
        return True, f"{counted}, which had {known} of the {wanted} that the sample asks for"
    if weekly is not None:
        missed = "" if weekly == partition else f" {weekly}, which came to no decision"
        return True, f"weekly, on {task.retrain.weekday}{missed}: {counted}"
    return False, f"{counted}, fewer than {task.retrain.or_new_documents}"


def _latest(task: LabellingTask, partition: Partition) -> Partition:
    """Return the last day of the week's retrain that is not after the partition."""
    end = datetime.date.fromisoformat(partition)
    days = (end - datetime.timedelta(days=back) for back in range(7))
    return next(Partition(day.isoformat()) for day in days if day.strftime("%A").lower() == task.retrain.weekday)
