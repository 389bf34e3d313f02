"""Promote: compare candidate and champion on gold, move the alias where the gates pass, and enter each move once."""

import datetime
import json
import logging
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa

from llambert_etl.config import LabellingTask
from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.gold import gold_as_of, gold_hash
from llambert_etl.lake import Lake, lake_faults
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.registry import ModelVersion, Registry
from llambert_etl.schemas import TABLES

logger = logging.getLogger(__name__)

MovedBy = Literal["promote", "rollback", "by hand"]
_DECISIONS: dict[MovedBy, str] = {"promote": "promoted", "rollback": "rolled back"}


@dataclass(frozen=True)
class _Score:
    gold_f1_macro: float
    gold_accuracy: float
    shares: dict[str, float]


@dataclass(frozen=True)
class _Move:
    """What the alias is to name, or names already, and what it named before."""

    before: int | None
    to: int
    by: MovedBy
    reason: str
    evidence: dict[str, object]


def promote(
    task: LabellingTask,
    partition: Partition,
    *,
    run: str,
    lake: Lake,
    registry: Registry,
    to: int | None = None,
    dry_run: bool = False,
) -> Manifest:
    """Make the partition's newest version champion where it beats the champion on gold; `to` sets a version as it is.

    Return decision, reason, champion, candidate and the metrics of both in `facts`. Raise DataError where the candidate
    is not good enough to label at all. Run again after a crash, it finishes the same move and enters it once.
    """
    started = datetime.datetime.now(datetime.UTC)
    desk = _Desk(task, partition, run, lake, registry, dry_run)
    facts = desk.rollback(to) if to is not None else desk.decide()
    facts["partitions"] = [str(day) for day in lake.partitions("documents", task.name)]
    facts["dry_run"] = dry_run
    manifest = Manifest(step="promote", task=task.name, partition=partition, run=run, config_hash=task.config_hash)
    return manifest.finished(started, facts=facts)


class _Desk:
    """One decision: what the alias and the audit log say, and what follows."""

    def __init__(
        self, task: LabellingTask, partition: Partition, run: str, lake: Lake, registry: Registry, dry_run: bool
    ) -> None:
        self.task, self.partition, self.run, self.dry_run = task, partition, run, dry_run
        self.lake, self.registry = lake, registry
        self.champion = registry.champion(task.name)
        with lake_faults("promotions"):
            self.log = lake.scan("promotions", task.name).sort("moved_at").collect()
        self.last: int | None = self.log["to_version"][-1] if self.log.height else None

    def rollback(self, to: int) -> dict[str, object]:
        target = self.registry.version(self.task.name, to)
        self._check_labels(target)
        self.registry.download(target)  # a version whose files are damaged must not become champion
        before = self._before(target)
        metrics = {"champion": _recorded(before), "candidate": _recorded(target)}
        facts: dict[str, object] = {"candidate": to, "metrics": metrics}
        if self._standing(to) and not self._own(to):
            return facts | {"decision": "kept", "reason": f"version {to} is the champion already", "champion": to}
        move = _Move(_number(before), to, "rollback", f"asked for version {to}", {"metrics": metrics})
        return facts | self._carry_out(move)

    def decide(self) -> dict[str, object]:
        versions = self.registry.versions(self.task.name)
        candidate = next((version for version in versions if version.partition == self.partition), None)
        if candidate is None:
            self._enter_hand_move(None)
            reason = f"no version was trained as of {self.partition}"
            return self._kept(reason) | {"candidate": None, "metrics": {"champion": None, "candidate": None}}
        self._check_labels(candidate)
        before = self._before(candidate)
        scores = self._scores(candidate, before)
        metrics = {name: _shown(score) for name, score in scores.items()}
        facts: dict[str, object] = {"candidate": candidate.version, "metrics": metrics}
        if self._standing(candidate.version):
            return facts | self._repeated(candidate)
        refusal, keep, reason = self._verdict(candidate, before, scores)
        if refusal or keep:
            self._enter_hand_move(None)
            self._note(candidate, f"{'refused' if refusal else 'kept'}: {reason}")
            if refusal:
                # Not remembered as a decision: a retrain that failed must not count as one.
                raise DataError(f"{candidate.name} version {candidate.version}: {reason}; the champion stays")
            self._remember()
            return facts | self._kept(reason)
        move = _Move(_number(before), candidate.version, "promote", reason, {"metrics": metrics})
        carried = self._carry_out(move)
        self._note(candidate, f"promoted: {reason}")
        return facts | carried

    def _before(self, target: ModelVersion) -> ModelVersion | None:
        """Return the champion before this decision. Where the alias names `target` but the log does not, a move of ours
        was cut off before its row, and the log says what was champion.
        """
        if self.champion is None or self.champion.version != target.version:
            return self.champion
        if self.last is None or self.last == target.version:
            return self._predecessor(target)
        return self.registry.version(self.task.name, self.last)

    def _predecessor(self, target: ModelVersion) -> ModelVersion | None:
        rows = self.log.filter(pl.col("to_version") == target.version)
        earlier = rows["from_version"][-1] if rows.height else None
        return None if earlier is None else self.registry.version(self.task.name, earlier)

    def _standing(self, version: int) -> bool:
        """Tell whether alias and log both name this version: there is nothing to finish."""
        return self.champion is not None and self.champion.version == version == self.last

    def _own(self, version: int) -> bool:
        own = self.log.tail(1).filter((pl.col("to_version") == version) & (pl.col("partition") == str(self.partition)))
        return own.height > 0 and self.run in (own["run"][0], own["run"][0].rpartition("#")[0])

    def _repeated(self, candidate: ModelVersion) -> dict[str, object]:
        if not self._own(candidate.version):
            return self._kept(f"version {candidate.version} is the champion already")
        self._remember()
        last = self.log.row(-1, named=True)
        return {"decision": _DECISIONS[last["moved_by"]], "reason": last["reason"], "champion": candidate.version}

    def _verdict(
        self, candidate: ModelVersion, before: ModelVersion | None, scores: "dict[str, _Score | None]"
    ) -> tuple[bool, bool, str]:
        """Return (refused, kept, reason)."""
        gates, own, other = self.task.gates, scores["candidate"], scores["champion"]
        assert own is not None  # noqa: S101 - the candidate is always measured
        if own.gold_f1_macro < gates.min_gold_f1:
            return True, False, f"gold macro F1 is {own.gold_f1_macro:.4f}, expected {gates.min_gold_f1} or more"
        label, share = min(own.shares.items(), key=lambda item: item[1])
        if share < gates.min_label_share:
            return (
                True,
                False,
                (f"collapsed: it gives {label!r} to {share:.4f} of gold, expected {gates.min_label_share} or more"),
            )
        if before is None:
            return False, False, f"the first champion, gold macro F1 {own.gold_f1_macro:.4f}"
        if candidate.partition < before.partition:
            return False, True, f"the champion was trained as of {before.partition}; a backfill never goes back"
        if other is None:
            return False, False, f"the champion has other labels, {list(before.labels)}"
        gain = own.gold_f1_macro - other.gold_f1_macro
        compared = f"gold macro F1 {own.gold_f1_macro:.4f} against {other.gold_f1_macro:.4f}"
        if gain <= gates.min_gain:
            return False, True, f"{compared}: not more than {gates.min_gain} better"
        return False, False, compared

    def _scores(self, candidate: ModelVersion, before: ModelVersion | None) -> "dict[str, _Score | None]":
        """Measure both on the same gold rows; one that was trained when gold was the same has been measured already."""
        gold = gold_as_of(self.task, self.lake, self.partition).filter(pl.col("split") == "test")
        comparable = before is not None and before.labels == self.task.label_names
        champion = self._score(before, gold) if before is not None and comparable else None
        return {"champion": champion, "candidate": self._score(candidate, gold)}

    def _score(self, version: ModelVersion, gold: pl.DataFrame) -> _Score:
        folder = self.registry.download(version)  # refuses files that are not those of the registration
        if version.gold_hash == gold_hash(gold):
            return _measured(version)
        from llambert_etl.encoder.inference import Encoder
        from llambert_etl.encoder.metrics import evaluate

        encoder = Encoder.load(folder)
        index = {label: number for number, label in enumerate(self.task.label_names)}
        truth = np.asarray([index[label] for label in gold["label"].to_list()], dtype=np.int64)
        found = evaluate(self.task.label_names, truth, encoder.predict(gold["text"].to_list()))
        logger.info("version %d: gold macro F1 %.4f, accuracy %.4f", version.version, found.macro_f1, found.accuracy)
        return _Score(found.macro_f1, found.accuracy, found.predicted_shares)

    def _check_labels(self, version: ModelVersion) -> None:
        if version.labels != self.task.label_names:
            raise ConfigError(
                f"{version.name} version {version.version} labels {list(version.labels)}, the task file says "
                f"{list(self.task.label_names)}: train again, or put the task file's labels back"
            )

    def _carry_out(self, move: _Move) -> dict[str, object]:
        """Move the alias, then enter the move. A rerun finds the alias moved and the row missing, and enters it."""
        self._enter_hand_move(move.to)
        if not self.dry_run:
            if self.champion is None or self.champion.version != move.to:
                if _number(self.registry.champion(self.task.name)) != _number(self.champion):
                    raise TransientError(f"champion of {self.task.name}: moved meanwhile by another hand; try again")
                self.registry.set_champion(self.task.name, move.to)
            self._enter(move)
            if move.by == "promote":
                self._remember()
        logger.info("%s: champion %s -> %s, %s", move.by, move.before, move.to, move.reason)
        champion = _number(self.champion) if self.dry_run else move.to
        return {"decision": _DECISIONS[move.by], "reason": move.reason, "champion": champion}

    def _enter_hand_move(self, target: int | None) -> None:
        """Enter a move that no run of ours made; the alias on `target` is our own move, cut off before its row."""
        now = _number(self.champion)
        if self.dry_run or now is None or now in (self.last, target):
            return
        reason = "the alias was found moved"
        self._enter(_Move(self.last, now, "by hand", reason, {"seen_by": self.run}))

    def _enter(self, move: _Move) -> None:
        taken = self.log.filter((pl.col("partition") == str(self.partition)) & (pl.col("to_version") == move.to))
        # A run name may come back, as that of the command line does: its second move to a version is a move too.
        run = f"{self.run}#{self.log.height}" if self.run in taken["run"].to_list() else self.run
        row = {
            "task": self.task.name,
            "partition": self.partition,
            "from_version": move.before,
            "to_version": move.to,
            "moved_by": move.by,
            "reason": move.reason,
            "evidence": json.dumps(move.evidence, sort_keys=True),
            "moved_at": datetime.datetime.now(datetime.UTC),
            "run": run,
        }
        manifest = Manifest(step="promote", task=self.task.name, partition=self.partition, run=run)
        rows = pa.Table.from_pylist([row], schema=TABLES["promotions"].schema)
        self.lake.append_once("promotions", self.task.name, self.partition, rows, manifest=manifest)

    def _kept(self, reason: str) -> dict[str, object]:
        logger.info("kept: %s", reason)
        return {"decision": "kept", "reason": reason, "champion": _number(self.champion)}

    def _note(self, candidate: ModelVersion, decision: str) -> None:
        if not self.dry_run:
            self.registry.note_decision(candidate, decision)

    def _remember(self) -> None:
        if not self.dry_run:
            self.registry.set_decided_upto(self.task.name, self.partition)


def _number(version: ModelVersion | None) -> int | None:
    return None if version is None else version.version


def _shown(score: _Score | None) -> dict[str, object] | None:
    return None if score is None else asdict(score)


def _measured(version: ModelVersion) -> _Score:
    known = version.metrics
    shares = {label: known[f"gold.predicted_share.{label}"] for label in version.labels}
    return _Score(known["gold.macro_f1"], known["gold.accuracy"], shares)


def _recorded(version: ModelVersion | None) -> dict[str, object] | None:
    """Return what was measured when the version was trained: a rollback must not wait for gold."""
    if version is None:
        return None
    known = version.metrics
    return {"gold_f1_macro": known.get("gold.macro_f1"), "gold_accuracy": known.get("gold.accuracy")}
