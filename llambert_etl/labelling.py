"""The plan of one label run and what its shards staged: the notes that plan, label, check and publish share."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from llambert_etl.config import fingerprint
from llambert_etl.errors import ConfigError, DataError
from llambert_etl.lake import Lake, StagedFiles, lake_faults
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.registry import ModelVersion


class Plan(BaseModel):
    """What one run labels, with what. Written once, so that every shard and every retry uses the same model version.

    `move` is the number of the promotion that made the model champion; None where it is no champion, or nobody knows.
    `doubt` is what a gate, or somebody in MLflow, has said against the model, where another has asked for it.
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

    @property
    def commit_key(self) -> str:
        """Identify the labels that this plan makes: they follow from the documents and the model version alone."""
        return f"labels/{self.task}/{self.partition}/{self.documents_key}/{self.model.name}/{self.model.version}"

    @property
    def folder(self) -> str:
        """Return where the shards are noted: in one place for all runs that would make the same labels."""
        return f"{self.task}/{self.partition}/shards-{fingerprint([self.commit_key, self.shards])}"

    def beside(self, published: Manifest) -> Literal["newer", "older", "neither"]:
        """Tell whether documents and champion are those of the published labels or newer ones, or older ones."""
        documents, move = published.versions_read.get("documents"), published.facts.get("move")
        if documents is None or self.move is None or not isinstance(move, int):
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
    found = lake.read_note(f"{run_folder(task, partition, run)}/plan.json")
    return None if found is None else Plan.model_validate_json(found)


def read_plan(lake: Lake, task: str, partition: Partition, run: str) -> Plan:
    """Return the run's plan; raise ConfigError where it has none."""
    plan = find_plan(lake, task, partition, run)
    if plan is None:
        raise ConfigError(
            f"label run {run!r} of {task} {partition} has no plan: run `llambert plan` with the same --run first"
        )
    return plan


def write_shard(lake: Lake, plan: Plan, shard: int, note: ShardNote) -> None:
    lake.write_note(f"{plan.folder}/shard-{shard}.json", note.model_dump_json())


def find_shard(lake: Lake, plan: Plan, shard: int) -> ShardNote | None:
    found = lake.read_note(f"{plan.folder}/shard-{shard}.json")
    return None if found is None else ShardNote.model_validate_json(found)


def is_whole(lake: Lake, plan: Plan, note: ShardNote) -> bool:
    """Tell whether the shard's files are there: another run may have staged them days ago."""
    folder = f"labels/task={plan.task}/partition={plan.partition}"
    with lake_faults(f"{lake.uri}/{folder}"):
        sizes = {info.base_name: info.size for info in lake.storage.list(folder)}
    return all(sizes.get(file.key.rpartition("/")[2]) == file.bytes for file in note.staged.files)


def read_shards(lake: Lake, plan: Plan) -> list[ShardNote]:
    """Return every shard's note; raise DataError naming those that are not staged yet."""
    notes = [find_shard(lake, plan, shard) for shard in range(plan.shards)]
    missing = [shard for shard, note in enumerate(notes) if note is None]
    if missing:
        raise DataError(
            f"labels {plan.task} {plan.partition}: shards {missing} are not staged; run `llambert label --shard`"
        )
    return [note for note in notes if note is not None]


def merge(plan: Plan, notes: list[ShardNote]) -> StagedFiles:
    """Return all shards' files as one; what they replace is what the plan saw."""
    return StagedFiles(files=tuple(file for note in notes for file in note.staged.files), replaces=plan.labels_key)


def record_check(lake: Lake, plan: Plan, staged: StagedFiles) -> None:
    """Note that exactly these staged files passed their gate."""
    lake.write_note(f"{plan.folder}/checked.json", fingerprint([file.key for file in staged.files]))


def was_checked(lake: Lake, plan: Plan, staged: StagedFiles) -> bool:
    return lake.read_note(f"{plan.folder}/checked.json") == fingerprint([file.key for file in staged.files])
