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
    accepted = pl.col("status") == DocumentStatus.ACCEPTED
    new = pl.col("partition") > (trained or "")
    documents = lake.scan("documents", task.name, upto=partition).filter(accepted)
    count, fresh = collect(documents.select(pl.len(), new.sum())).row(0)
    due, reason = _decide(task, partition, trained, count - fresh, fresh, force)
    facts = Due(due=due, reason=reason, new_documents=fresh, trained_upto=trained)
    return run.manifest("training-due", facts=facts)


def _decide(
    task: LabellingTask, partition: Partition, trained: Partition | None, known: int, fresh: int, force: bool
) -> tuple[bool, str]:
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
    if datetime.date.fromisoformat(partition).strftime("%A").lower() == task.retrain.weekday:
        return True, f"weekly, on {task.retrain.weekday}: {counted}"
    return False, f"{counted}, fewer than {task.retrain.or_new_documents}"
