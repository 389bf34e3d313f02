"""Publish a label run: every shard's staged rows become visible in one commit."""

import datetime

from llambert_etl.config import LabellingTask
from llambert_etl.errors import DataError
from llambert_etl.labelling import merge, read_plan, read_shards, was_checked
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition


def publish(task: LabellingTask, partition: Partition, *, run: str, lake: Lake) -> Manifest:
    """Replace the partition's labels with what was staged and checked. Repeating it changes nothing.

    Raise DataError while a shard is missing or the staged files have not passed their gate: the old labels stay.
    """
    started = datetime.datetime.now(datetime.UTC)
    plan = read_plan(lake, task.name, partition, run)
    notes = read_shards(lake, plan)
    staged = merge(plan, notes)
    if not was_checked(lake, plan, staged):
        raise DataError(
            f"labels {task.name} {partition}: the staged files have not passed their gate; run `llambert check labels`"
        )
    manifest = Manifest(
        step="publish",
        task=task.name,
        partition=partition,
        run=run,
        config_hash=task.config_hash,
        rows={name: sum(note.manifest.rows[name] for note in notes) for name in ("read", "inferred", "reused")},
        versions_read={"documents": plan.documents_version},
        facts={
            # With the registry down, the next run goes on with this very version and these hashes.
            "model": plan.model.model_dump(mode="json"),
            "model_version": plan.model.version,
            "shards": plan.shards,
        },
    )
    if staged.rows != manifest.rows["read"]:
        raise DataError(
            f"labels {task.name} {partition}: {staged.rows} rows staged for {manifest.rows['read']} documents"
        )
    commit = lake.replace_partition(
        "labels",
        task.name,
        partition,
        staged,
        commit_key=plan.commit_key,
        manifest=manifest.finished(started),
    )
    return manifest.finished(started, versions_written={"labels": commit.version})
