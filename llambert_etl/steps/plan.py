"""Plan a label run: pin the champion, look at what is there already, cut the partition into a few fat shards."""

import logging
from typing import NamedTuple

import polars as pl

from llambert_etl.champion.moves import Champion, ensure_labels, found_by_hand
from llambert_etl.config import LabellingTask
from llambert_etl.corpus.documents import ingested
from llambert_etl.corpus.forgotten import Forgotten
from llambert_etl.errors import TransientError
from llambert_etl.facts import Planned, Published
from llambert_etl.labelling.known import look_up
from llambert_etl.labelling.model_files import keep
from llambert_etl.labelling.plan import Plan, find_plan, write_plan
from llambert_etl.lake import Lake, count
from llambert_etl.manifest import Manifest
from llambert_etl.registry import ModelVersion, Registry
from llambert_etl.run import Run
from llambert_etl.schemas import DocumentStatus
from llambert_etl.settings import Settings

logger = logging.getLogger(__name__)

# Of a shard's work, what comes with it may be so much.
_OVERHEAD_SHARE = 0.05

NO_CHAMPION = "no champion yet: the first promotion brings this partition back"
NO_DOCUMENTS = "no accepted documents on this day, and no labels to replace"


class _Pin(NamedTuple):
    """The version to label with, the number of the move that made it champion, and what speaks against it."""

    version: ModelVersion
    move: int | None
    doubt: str | None


def plan(run: Run, *, lake: Lake, registry: Registry, settings: Settings, model_version: int | None = None) -> Manifest:
    """Write the run's plan and return it in `facts`: shards, model_version, fresh, skip.

    A champion that was moved by hand is entered in the audit log; `bring_back` then lists the other partitions, for
    they are labelled by the one before.

    The version's files are in the lake before the plan is: the shards need no registry.
    A repeated plan of an unfinished run keeps the version that the run began with, though the alias may have moved;
    only one that is told another version begins anew.
    `fresh`: the labels are already those of these documents and this version. `skip`: why there is no version.
    `doubt`: what speaks against a version that somebody has asked for all the same.
    """
    task, partition = run.task, run.partition
    earlier = _unfinished(lake, run, model_version)
    made = earlier or _make(run, lake, _pin(run, lake, registry, model_version), settings)
    moved = found_by_hand(lake, run)
    others = [day for day in lake.partitions("documents", task.name) if day != partition] if moved else []
    none = Planned(shards=0, fresh=False, bring_back=others)
    if made is None:
        return run.manifest("plan", facts=none.model_copy(update={"skip": NO_CHAMPION}))
    if made.documents == 0 and made.labels_key is None:
        return run.manifest("plan", facts=none.model_copy(update={"skip": NO_DOCUMENTS}))
    if made.doubt:
        logger.warning("labelling with %s all the same: %s", made.model, made.doubt)
    fresh = lake.holds("labels", task.name, partition, made.commit_key)
    if not fresh:
        keep(lake, made.model, registry.download)
        if made is not earlier:  # an unfinished plan keeps its age: what it names is as old as that
            made = look_up(made, task, lake)
            write_plan(lake, made)
    facts = Planned(
        shards=0 if fresh else made.shards,
        fresh=fresh,
        bring_back=others,
        model_name=made.model.name,
        model_version=made.model.version,
        doubt=made.doubt,
        skip=None,
    )
    return run.manifest("plan", facts=facts, versions_read={"documents": made.documents_version})


def _unfinished(lake: Lake, run: Run, wanted: int | None) -> Plan | None:
    """Return this run's earlier plan while its documents stand and its labels are not published."""
    task, partition = run.task, run.partition
    earlier = find_plan(lake, task.name, partition, run.name)
    if (
        earlier is None
        or wanted not in (None, earlier.model.version)
        or earlier.forgotten != len(Forgotten(lake, task.name))
        or lake.holds("labels", task.name, partition, earlier.commit_key)
    ):
        return None
    same = earlier.documents_key == lake.commit_key(
        "documents", task.name, partition
    ) and earlier.labels_key == lake.commit_key("labels", task.name, partition)
    return earlier if same else None


def _make(run: Run, lake: Lake, pin: _Pin | None, settings: Settings) -> Plan | None:
    task, partition = run.task, run.partition
    # In this order: a commit, or a document that is forgotten, in between makes this plan stale, never wrong.
    forgotten = len(Forgotten(lake, task.name))
    documents_key = ingested(lake, task.name, partition)
    if pin is None:
        return None
    documents = lake.snapshot("documents")
    accepted = count(
        documents.scan("documents", task.name, partition).filter(pl.col("status") == DocumentStatus.ACCEPTED)
    )
    return Plan(
        task=task.name,
        partition=partition,
        run=run.name,
        model=pin.version,
        move=pin.move,
        doubt=pin.doubt,
        documents_version=documents.versions["documents"],
        documents_key=documents_key,
        labels_key=lake.commit_key("labels", task.name, partition),
        documents=accepted,
        shards=max(1, min(settings.max_shards, -(-accepted // _fat(lake, task, settings)))),
        forgotten=forgotten,
    )


def _fat(lake: Lake, task: LabellingTask, settings: Settings) -> int:
    """Return how many rows are worth a shard: at the rate of the last label run its overhead is a small part of them.

    That is `shard_rows` doubled as often as it takes: rates differ a little, and two runs of a day are to cut it alike.
    """
    last, rows = next(lake.commits("labels", task.name), None), settings.shard_rows
    if last is None or last.manifest is None or not (seconds := Published.of(last.manifest).shard_seconds):
        return rows
    wanted = last.manifest.rows["inferred"] / seconds * settings.shard_overhead_seconds / _OVERHEAD_SHARE
    while rows < wanted:
        rows *= 2
    return rows


def _pin(run: Run, lake: Lake, registry: Registry, wanted: int | None) -> _Pin | None:
    """Resolve the version to label with, once. None: nothing was promoted yet.

    Raise ConfigError where there is a champion in the log that nobody stands behind any more.
    """
    task = run.task
    if wanted is not None:
        version = registry.version(task.name, wanted)
        ensure_labels(task, version)
        return _Pin(version, None, registry.unfit(task.name, wanted) or _refusal(registry, version))
    try:
        champion = Champion(run, lake, registry, dry_run=False)
    except TransientError as error:
        return _last_used(task, lake, error)
    champion.standing.ensure(task.name)
    if champion.version is None:
        return None
    ensure_labels(task, champion.version)
    champion.notice()
    return _Pin(champion.version, champion.entered_as, _refusal(registry, champion.version))


def _refusal(registry: Registry, version: ModelVersion) -> str | None:
    """Say what a gate said against the version: who asks for it all the same is told."""
    decision = registry.decision(version)
    return f"a gate has {decision}" if decision.startswith("refused") else None


def _last_used(task: LabellingTask, lake: Lake, outage: TransientError) -> _Pin:
    """With the registry down, go on with the version and hashes of the last label commit, never with a guess."""
    last = next(lake.commits("labels", task.name), None)
    if last is None or last.manifest is None:
        raise outage
    logger.warning("registry down: using the model version of the last label commit")
    published = Published.of(last.manifest)
    version = ModelVersion.model_validate(published.model)
    ensure_labels(task, version)
    return _Pin(version, published.move, None)
