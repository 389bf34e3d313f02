"""Promote: compare candidate and champion on gold, move the alias where the gates pass, and enter each move once."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import polars as pl

from llambert_etl.champion.moves import Champion, MovedBy, ensure_labels, found_by_hand
from llambert_etl.champion.scores import score
from llambert_etl.champion.verdict import judge
from llambert_etl.config import LabellingTask
from llambert_etl.corpus.gold import gold_as_of
from llambert_etl.errors import ConfigError, DataError
from llambert_etl.facts import Comparison, Decided, Decision
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.registry import ModelVersion, Registry
from llambert_etl.run import Run

logger = logging.getLogger(__name__)

_DECISIONS: dict[MovedBy, Decision] = {"promote": "promoted", "rollback": "rolled back"}


def promote(
    run: Run,
    *,
    lake: Lake,
    registry: Registry,
    candidate: int | None = None,
    to: int | None = None,
    keep: str | None = None,
    approved: str | None = None,
    dry_run: bool = False,
    today: Partition | None = None,
) -> Manifest:
    """Make the candidate champion where it beats the champion on gold; `to` sets a version as it is.

    The candidate is the version of that number, or the partition's newest. `keep` lets the champion stay for that
    reason, and `approved` says who wanted a move and why. Return decision, reason, champion, candidate and the metrics
    of both in `facts`, and in a dry run what would change: `comparison`. `bring_back` lists the partitions that another
    champion is to label. A rollback also takes back what was decided as of a day after `today`. Raise DataError where
    the candidate is not good enough to label at all. Run again after a crash, it finishes the same move and enters it
    once.
    """
    champion = Champion(run, lake, registry, dry_run=dry_run)
    decision = _Decision(run.task, run.partition, champion, lake, registry, candidate, approved, dry_run)
    if to is not None:
        decided = decision.rollback(to, today or run.partition)
    elif keep is not None:
        decided = decision.keep(keep)
    else:
        decided = decision.decide()
    moved = decided.decision in _DECISIONS.values() or found_by_hand(lake, run)
    days = lake.partitions("documents", run.task.name) if moved and not dry_run else []
    facts = decided.model_copy(update={"bring_back": days, "dry_run": dry_run})
    return run.manifest("promote", facts=facts, versions_read=decision.read)


@dataclass
class _Decision:
    """One decision: who is champion, who comes next, and why."""

    task: LabellingTask
    partition: Partition
    champion: Champion
    lake: Lake
    registry: Registry
    number: int | None
    approved: str | None
    dry_run: bool
    read: dict[str, int] = field(default_factory=dict)

    def rollback(self, to: int, today: Partition) -> Decided:
        target = self.registry.version(self.task.name, to)
        self._check(target)
        self.registry.download(target)  # a version whose files are damaged must not become champion
        metrics = {"champion": _recorded(self.champion.before(target)), "candidate": _recorded(target)}
        if not self.dry_run and (self.registry.decided_upto(self.task.name) or "") > max(today, self.partition):
            self.registry.set_decided_upto(self.task.name, self.partition)
        if self.champion.stands(to) and self.champion.as_of(target) <= max(today, self.partition):
            return self._repeated(target, metrics)
        decision = self.registry.decision(target)
        refused = f", which a gate has {decision}" if decision.startswith("refused") else ""
        return self._moved(target, "rollback", f"asked for version {to}{refused}", metrics)

    def keep(self, reason: str) -> Decided:
        """Let the champion stay because somebody said so: a decision like that of the gate."""
        candidate = self._candidate()
        if candidate is not None and not self.champion.stands(candidate.version):
            self._note(candidate, f"kept: {reason}")
        decided = self._kept(candidate, reason)
        self._remember()
        return decided

    def decide(self) -> Decided:
        candidate = self._candidate()
        if candidate is None:
            raise ConfigError(
                f"{self.task.name}: no version was trained as of {self.partition}; run `llambert train` for that day "
                "first, or name a version by --candidate"
            )
        self._check(candidate)
        before = self.champion.before(candidate)
        tables = self.lake.snapshot("gold")
        self.read = tables.versions
        gold = gold_as_of(self.task, tables, self.partition).filter(pl.col("split") == "test")
        same = before is not None and before.labels == self.task.label_names
        other = score(before, gold, self.registry) if before is not None and same else None
        own = score(candidate, gold, self.registry)
        metrics = {"champion": None if other is None else asdict(other), "candidate": asdict(own)}
        if self.champion.stands(candidate.version):
            return self._repeated(candidate, metrics)
        verdict = judge(self.task, gold, candidate, own, self.champion, before, other)
        if verdict.decision == "refused":
            self._note(candidate, str(verdict))
            self._kept(candidate, verdict.reason)
            # Not remembered as a decision: a retrain that failed must not count as one.
            raise DataError(f"{candidate.name} version {candidate.version}: {verdict.reason}; the champion stays")
        compared: dict[str, Comparison] = {}
        if self.dry_run:
            from llambert_etl.champion.comparison import compare

            compared["comparison"] = compare(self.task, gold, candidate, before, lake=self.lake, registry=self.registry)
        if verdict.decision == "kept":
            self._note(candidate, str(verdict))
            decided = self._kept(candidate, verdict.reason).model_copy(update={"metrics": metrics})
        else:
            decided = self._moved(candidate, "promote", verdict.reason, metrics)
            self._note(candidate, str(verdict))
        self._remember()
        return decided.model_copy(update=compared)

    def _candidate(self) -> ModelVersion | None:
        if self.number is not None:
            return self.registry.version(self.task.name, self.number)
        versions = self.registry.versions(self.task.name)
        return next((version for version in versions if version.partition == self.partition), None)

    def _moved(self, target: ModelVersion, by: MovedBy, reason: str, metrics: Mapping[str, object]) -> Decided:
        approval = {} if self.approved is None else {"approved": self.approved}
        if self.champion.standing.doubt:
            reason = f"{reason}; before it {self.champion.standing.doubt}"
        self.champion.move(target, by, reason, {"metrics": metrics, **approval})
        champion = self.champion.number if self.dry_run else target.version
        return _decided(_DECISIONS[by], reason, champion, target, metrics)

    def _kept(self, candidate: ModelVersion | None, reason: str) -> Decided:
        self.champion.leave(candidate)
        logger.info("kept: %s", reason)
        number = None if candidate is None else candidate.version
        return Decided(decision="kept", reason=reason, champion=self.champion.number, candidate=number)

    def _repeated(self, target: ModelVersion, metrics: Mapping[str, object]) -> Decided:
        """Answer as the run did before, where this one has moved the alias already."""
        last = self.champion.last
        if last is None or last.by == "by hand" or not self.champion.made_by_this_run():
            reason = f"version {target.version} is the champion already"
            return _decided("kept", reason, target.version, target, metrics)
        if last.by == "promote":
            self._remember()
        return _decided(_DECISIONS[last.by], last.reason, target.version, target, metrics)

    def _check(self, version: ModelVersion) -> None:
        ensure_labels(self.task, version)
        if unfit := self.registry.unfit(self.task.name, version.version):
            raise ConfigError(f"{version.name}: {unfit}; mend that in MLflow, or name another version")

    def _note(self, candidate: ModelVersion, decision: str) -> None:
        if not self.dry_run:
            self.registry.note_decision(candidate, decision)

    def _remember(self) -> None:
        """Note that a retrain has come to a decision; a backfill of an earlier day does not move that back."""
        if not self.dry_run and (self.registry.decided_upto(self.task.name) or "") < self.partition:
            self.registry.set_decided_upto(self.task.name, self.partition)


def _decided(
    decision: Decision, reason: str, champion: int | None, target: ModelVersion, metrics: Mapping[str, object]
) -> Decided:
    return Decided(decision=decision, reason=reason, champion=champion, candidate=target.version, metrics=metrics)


def _recorded(version: ModelVersion | None) -> dict[str, object] | None:
    """Return what was measured when the version was trained: a rollback must not wait for gold."""
    if version is None:
        return None
    known = version.metrics
    return {"gold_f1_macro": known.get("gold.macro_f1"), "gold_accuracy": known.get("gold.accuracy")}
