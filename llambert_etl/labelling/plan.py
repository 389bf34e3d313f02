"""The plan of one label run and what its shards staged: the notes that plan, label, check and publish share."""

from collections.abc import Iterable
from typing import Literal

import polars as pl
from pydantic import BaseModel, ConfigDict

from llambert_etl.config import fingerprint
from llambert_etl.corpus.documents import in_shard
from llambert_etl.errors import ConfigError, DataError
from llambert_etl.facts import Published
from llambert_etl.lake import RETENTION, Lake, StagedFiles
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.registry import ModelVersion


class Plan(BaseModel):
    """What one run labels, with what. Written once, so that every shard and every retry uses the same model version.

    `move` is the number of the promotion that made the model champion; None where it is no champion, or nobody knows.
    `doubt` is what a gate, or somebody in MLflow, has said against the model, where another has asked for it.
    `forgotten` grows each time that the task forgets documents: ingested again, a day has the key that it had before,
    but what shards had staged of it then counts no more.
    `sizes` are the documents of each shard, which is a range of text hashes; `known` names the files of what the model
    has said of them before. A plan of an earlier version has neither: its shards are cut by remainders.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    partition: Partition
    run: str
    model: ModelVersion
    move: int | None = None
    doubt: str | None = None
    documents_version: int
    documents_key: int | None
    labels_key: int | None
    documents: int
    shards: int
    forgotten: int = 0
    sizes: tuple[int, ...] = ()
    known: tuple[str, ...] = ()

    @property
    def commit_key(self) -> str:
        """Identify the labels that this plan makes: they follow from the documents and the model version alone."""
        return f"labels/{self.task}/{self.partition}/{self.documents_key}/{self.model.name}/{self.model.version}"

    @property
    def folder(self) -> str:
        """Return where the shards are noted: in one place for all runs that would make the same labels."""
        forgotten = [self.forgotten] if self.forgotten else []
        cut = ["ranges"] if self.sizes else []
        return f"{self.task}/{self.partition}/shards-{fingerprint([self.commit_key, self.shards, *forgotten, *cut])}"

    def holds(self, shard: int) -> pl.Expr:
        """Choose the rows of a shard. The text decides, so that equal texts are inferred once."""
        if self.sizes:
            return in_shard(shard, self.shards)
        return pl.col("text_hash").str.slice(0, 8).str.to_integer(base=16, strict=False) % self.shards == shard

    def beside(self, published: Manifest) -> Literal["newer", "older", "neither"]:
        """Tell whether documents and champion are those of the published labels or newer ones, or older ones."""
        documents, move = published.versions_read.get("documents"), Published.of(published).move
        if documents is None or self.move is None or move is None:
            return "neither"
        if self.documents_version >= documents and self.move >= move:
            return "newer"
        return "older" if self.documents_version <= documents and self.move <= move else "neither"


class ShardNote(BaseModel):
    """One shard's staged files and its account."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    staged: StagedFiles
    manifest: Manifest


def run_folder(task: str, partition: Partition, run: str) -> str:
    # A run's name comes from outside and may hold `:` or `+`; its fingerprint is a safe key.
    return f"{task}/{partition}/{fingerprint(run)}"


def write_plan(lake: Lake, plan: Plan) -> None:
    lake.write_note(f"{run_folder(plan.task, plan.partition, plan.run)}/plan.json", plan.model_dump_json())


def find_plan(lake: Lake, task: str, partition: Partition, run: str) -> Plan | None:
    """Return the run's plan; None where it has none, or one so old that what it names may be deleted any day."""
    found = lake.read_note(f"{run_folder(task, partition, run)}/plan.json", max_age=RETENTION)
    return None if found is None else Plan.model_validate_json(found)


def read_plan(lake: Lake, task: str, partition: Partition, run: str) -> Plan:
    """Return the run's plan; raise ConfigError where it has none."""
    plan = find_plan(lake, task, partition, run)
    if plan is None:
        raise ConfigError(
            f"label run {run!r} of {task} {partition} has no plan: run `llambert plan` with the same --run first, or "
            f"again, for a plan counts for {RETENTION.days} days"
        )
    return plan


def write_shard(lake: Lake, plan: Plan, shard: int, note: ShardNote) -> None:
    lake.write_note(f"{plan.folder}/shard-{shard}.json", note.model_dump_json())


def find_shard(lake: Lake, plan: Plan, shard: int) -> ShardNote | None:
    """Return the note of a shard whose files are all there; else it is to be labelled again."""
    (found,) = _find(lake, plan, [shard])
    return found


def read_shards(lake: Lake, plan: Plan) -> list[ShardNote]:
    """Return every shard's note; raise DataError naming those that are not staged, or not any more."""
    notes = _find(lake, plan, range(plan.shards))
    missing = [shard for shard, note in enumerate(notes) if note is None]
    if missing:
        raise DataError(
            f"labels {plan.task} {plan.partition}: shards {missing} are not staged, or their files are gone; for each "
            f"run `llambert label --shard` with --run {plan.run!r}, then `llambert check labels`"
        )
    return [note for note in notes if note is not None]


def _find(lake: Lake, plan: Plan, shards: Iterable[int]) -> list[ShardNote | None]:
    read = [lake.read_note(f"{plan.folder}/shard-{shard}.json") for shard in shards]
    notes = [None if note is None else ShardNote.model_validate_json(note) for note in read]
    staged = merge(plan, [note for note in notes if note is not None])
    gone = set(lake.missing("labels", staged)) if staged.files else set()
    whole = (note is not None and gone.isdisjoint(file.key for file in note.staged.files) for note in notes)
    return [note if found else None for note, found in zip(notes, whole, strict=True)]


def staged_keys(lake: Lake) -> set[str]:
    """Return the files that shards of any run have staged and noted."""
    notes = [ShardNote.model_validate_json(note) for note in lake.read_notes("shard-*.json")]
    return {file.key for note in notes for file in note.staged.files}


def merge(plan: Plan, notes: list[ShardNote]) -> StagedFiles:
    """Return all shards' files as one; what they replace is what the plan saw."""
    return StagedFiles(files=tuple(file for note in notes for file in note.staged.files), replaces=plan.labels_key)


def record_check(lake: Lake, plan: Plan, staged: StagedFiles) -> None:
    """Note that exactly these staged files passed their gate."""
    lake.write_note(f"{plan.folder}/checked.json", fingerprint([file.key for file in staged.files]))


def was_checked(lake: Lake, plan: Plan, staged: StagedFiles) -> bool:
    return lake.read_note(f"{plan.folder}/checked.json") == fingerprint([file.key for file in staged.files])
