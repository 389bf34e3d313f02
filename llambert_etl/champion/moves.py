"""The champion alias and the log of its moves, kept in step though MLflow has no compare-and-set.

Each move has a number, and the lake lets one row have it. A move is announced on its version, then the alias is set,
then the row is entered. Whoever finds the number taken has lost a race and decides again, knowing from what was
announced that the alias may name a version by a move that counts no more.
"""

import datetime
import json
import logging
from dataclasses import dataclass
from typing import Literal, NamedTuple

import polars as pl
import pyarrow as pa

from llambert_etl.config import LabellingTask
from llambert_etl.errors import ConfigError, TransientError
from llambert_etl.lake import Lake, collect
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.registry import ModelVersion, Registry
from llambert_etl.run import Run
from llambert_etl.schemas import TABLES

logger = logging.getLogger(__name__)

MovedBy = Literal["promote", "rollback", "by hand"]

_FOUND_MOVED = "the alias was found moved"


@dataclass(frozen=True)
class Entry:
    """The last move in the log."""

    to: int
    by: MovedBy
    reason: str
    partition: str
    run: str


class Standing(NamedTuple):
    """The version that the alias names. `doubt`: why it must not label, or why there is none though the log names one.

    Neither: nothing was promoted yet.
    """

    version: ModelVersion | None
    doubt: str | None

    def ensure(self, task: str) -> None:
        """Raise ConfigError for a doubt: nobody stands behind the version, so nothing may be labelled with it."""
        if self.doubt:
            raise ConfigError(
                f"champion of {task}: {self.doubt}; nothing is labelled until `llambert promote --task {task} "
                "--partition DAY --to VERSION` names a version, or a retrain has made one that passes its gates"
            )


def standing(task: str, lake: Lake, registry: Registry) -> Standing:
    entered = collect(lake.scan("promotions", task).sort("number").select("to_version")).to_series()
    return _standing(task, None if entered.is_empty() else entered[-1], registry)


def _standing(task: str, logged: int | None, registry: Registry) -> Standing:
    version = registry.champion(task)
    number = logged if version is None else version.version
    doubt = None if number is None else registry.unfit(task, number)
    if version is None and number is not None:
        doubt = doubt or f"the alias of version {number} was removed"
    return Standing(version, doubt)


def ensure_labels(task: LabellingTask, version: ModelVersion) -> None:
    """Raise ConfigError for a version of other labels, or of another order of them."""
    if version.labels != task.label_names:
        raise ConfigError(
            f"{version} labels {list(version.labels)}, the task file says {list(task.label_names)}: train again, or "
            "put the task file's labels back"
        )


class Champion:
    """What alias and log of a task say at the start of one decision, and how that decision changes them.

    `dry_run` changes nothing.
    """

    def __init__(self, run: Run, lake: Lake, registry: Registry, *, dry_run: bool) -> None:
        self._task, self._partition, self._run, self._dry_run = run.task.name, run.partition, run.name, dry_run
        self._lake, self._registry = lake, registry
        self._log = collect(lake.scan("promotions", self._task).sort("number"))
        self._moves = self._log.height
        self.last = None if self._log.is_empty() else _entry(self._log.row(-1, named=True))
        self.standing = _standing(self._task, self._logged, registry)
        self.version = self.standing.version
        self._unfinished = self._is_unfinished()

    @property
    def number(self) -> int | None:
        return None if self.version is None else self.version.version

    @property
    def _logged(self) -> int | None:
        return None if self.last is None else self.last.to

    def stands(self, version: int) -> bool:
        """Tell whether alias and log both name this version: there is nothing to finish."""
        return self.number == version == self._logged

    @property
    def entered_as(self) -> int | None:
        """Return the number of the move that made this version champion; None while it is not entered."""
        return self._moves if self.number is not None and self.stands(self.number) else None

    def as_of(self, version: ModelVersion) -> Partition:
        """Return the day of a champion's training, or an earlier one as of which somebody has put it back."""
        moves = self._log.filter(pl.col("to_version") == version.version, pl.col("moved_by") == "rollback")
        return Partition(min([version.partition, *moves["partition"]]))

    def withdrawn(self, version: int) -> bool:
        """Tell whether somebody has removed the alias from this very version."""
        return self.number is None and version == self._logged

    def made_by_this_run(self) -> bool:
        """Tell whether the last entry is this very run's: it is asked a second time."""
        return self.last is not None and (self.last.partition, self.last.run) == (self._partition, self._run)

    def before(self, target: ModelVersion) -> ModelVersion | None:
        """Return the champion that `target` is to be compared with: the one before it, where it is champion by us.

        There is none to compare with where the version is gone; where its alias alone is, the version still counts.
        """
        if self.number is None or (self._unfinished and self.number == target.version):
            return self._lookup(self._logged)
        if self.stands(target.version):
            return self._lookup(self._log.filter(pl.col("to_version") == target.version)["from_version"][-1])
        return self.version

    def move(self, target: ModelVersion, by: MovedBy, reason: str, evidence: dict[str, object]) -> None:
        """Make `target` champion and enter it. Cut off anywhere, the same call finishes it.

        Raise TransientError where another promotion or a person was faster.
        """
        own = self._unfinished and self.number == target.version
        before = self._logged if own or self.number is None else self.number
        logger.info("%s: champion %s -> %s, %s", by, before, target.version, reason)
        if self._dry_run:
            return
        if not own:
            self._enter_found()
            self._ensure_unmoved()
            self._registry.announce_move(target, self._moves + 1)
            self._registry.set_champion(self._task, target.version)
        self._enter(before, target.version, by, reason, evidence)

    def leave(self, target: ModelVersion | None) -> None:
        """Let the champion stay: take back what was begun for `target`, enter a move that was found."""
        if self._dry_run:
            return
        if target is None or self.number != target.version or not self._unfinished:
            self._enter_found()
        else:
            earlier = self.before(target)
            logger.info("champion %s of an unfinished move: back to %s", self.number, earlier)
            self._ensure_unmoved()
            self._registry.set_champion(self._task, None if earlier is None else earlier.version)
            self.version = earlier
        if target is not None and target.version != self.number and self._registry.announced_move(target) is not None:
            self._registry.announce_move(target, None)  # a person's move to it must not look like ours

    def notice(self) -> None:
        """Enter a move by hand that nobody has entered yet. A rival that is faster has entered it for both."""
        if self.number is not None and self.number != self._logged and not self._unfinished:
            self._append(self._logged, self.number, "by hand", _FOUND_MOVED, {"seen_by": self._run})

    def _lookup(self, version: int | None) -> ModelVersion | None:
        return None if version is None else self._registry.lookup(self._task, version)

    def _is_unfinished(self) -> bool:
        """Tell whether the alias is where a move of ours put it that was cut off before its row, or lost to another."""
        if self.version is None or self.number == self._logged:
            return False
        number = self._registry.announced_move(self.version)
        if number is None:
            return False
        return self._log.filter((pl.col("number") == number) & (pl.col("to_version") == self.number)).is_empty()

    def _ensure_unmoved(self) -> None:
        now = self._registry.champion(self._task)
        if (None if now is None else now.version) != self.number:
            raise TransientError(f"champion of {self._task}: moved meanwhile by another hand; try again")

    def _enter_found(self) -> None:
        """Enter a move that was found: one by hand, or one of a promotion that nobody has run again."""
        if self.number is None or self.number == self._logged:
            return
        by: MovedBy = "promote" if self._unfinished else "by hand"
        reason = "a promotion was cut off before it entered this" if self._unfinished else _FOUND_MOVED
        self._enter(self._logged, self.number, by, reason, {"seen_by": self._run})

    def _enter(self, before: int | None, to: int, by: MovedBy, reason: str, evidence: dict[str, object]) -> None:
        if not self._append(before, to, by, reason, evidence):
            raise TransientError(f"champion of {self._task}: another promotion was entered meanwhile; try again")

    def _append(self, before: int | None, to: int, by: MovedBy, reason: str, evidence: dict[str, object]) -> bool:
        """Enter a move under the next number; return whether the row of that number is now this one."""
        self._moves += 1
        row = {
            "task": self._task,
            "partition": self._partition,
            "number": self._moves,
            "from_version": before,
            "to_version": to,
            "moved_by": by,
            "reason": reason,
            "evidence": json.dumps(evidence, sort_keys=True),
            "moved_at": datetime.datetime.now(datetime.UTC),
            "run": self._run,
        }
        manifest = Manifest(step="promote", task=self._task, partition=self._partition, run=self._run)
        rows = pa.Table.from_pylist([row], schema=TABLES["promotions"].schema)
        commit = self._lake.append_once("promotions", self._task, self._partition, rows, manifest=manifest)
        if commit.replayed and not self._entered(row):
            return False
        self.last = _entry(row)
        return True

    def _entered(self, row: dict[str, object]) -> bool:
        found = collect(self._lake.scan("promotions", self._task).filter(pl.col("number") == self._moves))
        return found.row(0, named=True) == row


def found_by_hand(lake: Lake, run: Run) -> bool:
    """Tell whether this run has entered a move by hand: the labels of all partitions are then those of before."""
    moves = lake.scan("promotions", run.task.name, run.partition)
    log = moves.filter(pl.col("run") == run.name, pl.col("moved_by") == "by hand")
    return not collect(log).is_empty()


def highest_version(lake: Lake, task: str) -> int:
    """Return the highest number of a version that the log or a label names; 0 where none is named."""
    moves = collect(lake.scan("promotions", task).select(pl.col("to_version").max())).item()
    labels = collect(lake.scan("labels", task).select(pl.col("model_version").max())).item()
    return max(moves or 0, labels or 0)


def _entry(row: dict[str, object]) -> Entry:
    return Entry(row["to_version"], row["moved_by"], row["reason"], row["partition"], row["run"])  # type: ignore[arg-type]
