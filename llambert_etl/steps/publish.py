"""Publish a label run: every shard's staged rows become visible in one commit."""

from functools import partial

from llambert_etl.corpus.forgotten import forgotten_since
from llambert_etl.errors import DataError
from llambert_etl.facts import Published, Skipped
from llambert_etl.labelling.plan import Plan, merge, read_plan, read_shards, was_checked
from llambert_etl.lake import Lake, StagedFiles
from llambert_etl.manifest import Manifest
from llambert_etl.run import Run


def publish(run: Run, *, lake: Lake) -> Manifest:
    """Replace the partition's labels with what was staged and checked. Repeating it changes nothing.

    Where another run has published since this one was planned, the newer documents and champion stay: its labels are
    replaced, or nothing is done and `facts` says why under `skip`.
    Raise DataError while a shard is missing or the staged files have not passed their gate, and where neither run is
    the newer one: the old labels stay.
    """
    task, partition = run.task, run.partition
    plan = read_plan(lake, task.name, partition, run.name)
    notes = read_shards(lake, plan)
    staged = merge(plan, notes)
    if not was_checked(lake, plan, staged):
        raise DataError(
            f"labels {task.name} {partition}: the staged files have not passed their gate; run `llambert check labels`"
        )
    manifest = run.manifest(
        "publish",
        rows={name: sum(note.manifest.rows[name] for note in notes) for name in ("read", "inferred", "reused")},
        versions_read={"documents": plan.documents_version},
        facts=Published(
            model=plan.model.model_dump(mode="json"),
            model_version=plan.model.version,
            move=plan.move,
            shards=plan.shards,
            shard_seconds=round(sum(note.manifest.seconds for note in notes), 3),
        ),
    )
    if staged.rows != manifest.rows["read"]:
        raise DataError(
            f"labels {task.name} {partition}: {staged.rows} rows staged for {manifest.rows['read']} documents"
        )
    present = lake.commit_key("labels", task.name, partition)
    if present != plan.labels_key and not lake.holds("labels", task.name, partition, plan.commit_key):
        if (newer := _newer(lake, plan)) is not None:
            skip = f"run {newer.run!r} has meanwhile published the labels of newer documents or a newer champion"
            return run.finished(manifest, rows={}, facts=manifest.facts | Skipped(skip=skip).told())
    commit = lake.replace_partition(
        "labels",
        task.name,
        partition,
        staged.model_copy(update={"replaces": present}),
        commit_key=plan.commit_key,
        manifest=run.finished(manifest),
        still=partial(_refuse_forgotten, plan, staged, lake),
    )
    return run.finished(manifest, versions_written={"labels": commit.version})


def _refuse_forgotten(plan: Plan, staged: StagedFiles, lake: Lake) -> None:
    if count := forgotten_since("labels", plan.task, plan.partition, staged, lake):
        raise DataError(
            f"labels {plan.task} {plan.partition}: {count} documents of this run were forgotten since it was planned; "
            "nothing was published; start the label run again from `llambert plan`; after a restore, forget them again "
            "before that"
        )


def _newer(lake: Lake, plan: Plan) -> Manifest | None:
    """Return the account of the labels that are there now, where ours are the older ones; None where ours are newer.

    Raise DataError where the two cannot be compared.
    """
    last = lake.last_commit("labels", plan.task, plan.partition)
    there = None if last is None else last.manifest
    if there is None or (ours := plan.beside(there)) == "neither":
        raise DataError(
            f"labels {plan.task} {plan.partition}: another run has published since this one was planned, and it cannot "
            "be told whose documents and champion are newer; start another label run for this day"
        )
    return there if ours == "older" else None
