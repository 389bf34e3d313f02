"""Decide whether a partition's new documents are reason enough to train again."""

import datetime

import polars as pl

from llambert_etl.config import LabellingTask
from llambert_etl.lake import Lake, lake_faults
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.registry import Registry
from llambert_etl.schemas import DocumentStatus


def training_due(
    task: LabellingTask, partition: Partition, *, run: str, lake: Lake, registry: Registry, force: bool = False
) -> Manifest:
    """Return in `facts` whether a retrain as of `partition` is due, and why.

    The count starts after the last partition at which a retrain came to a decision; one that failed on the way does not
    count.
    """
    started = datetime.datetime.now(datetime.UTC)
    trained = registry.decided_upto(task.name)
    with lake_faults("documents"):
        fresh = (
            lake.scan("documents", task.name, upto=partition)
            .filter(pl.col("status") == DocumentStatus.ACCEPTED)
            .filter(pl.lit(True) if trained is None else pl.col("partition") > str(trained))
            .select(pl.len())
            .collect()
            .item()
        )
    due, reason = _decide(task, partition, trained, fresh, force)
    return Manifest(
        step="training-due",
        task=task.name,
        partition=partition,
        run=run,
        config_hash=task.config_hash,
        facts={"due": due, "reason": reason, "new_documents": fresh, "trained_upto": trained},
    ).finished(started)


def _decide(
    task: LabellingTask, partition: Partition, trained: Partition | None, fresh: int, force: bool
) -> tuple[bool, str]:
    if force:
        return True, "asked for"
    if trained is not None and partition <= trained:
        return False, f"already trained as of {trained}"
    if fresh == 0:
        return False, "no new documents"
    if trained is None:
        return True, f"nothing trained yet, {fresh} documents wait"
    if fresh >= task.retrain.or_new_documents:
        return True, f"{fresh} new documents since {trained}"
    if datetime.date.fromisoformat(partition).strftime("%A").lower() == task.retrain.weekday:
        return True, f"weekly, on {task.retrain.weekday}"
    return False, f"{fresh} new documents since {trained}, fewer than {task.retrain.or_new_documents}"
