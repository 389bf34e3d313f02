"""What the table `reviews` knows as of a partition: who was asked about which document, and what they said."""

import datetime
from collections import Counter, defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import polars as pl

from llambert_etl.lake import Tables, collect
from llambert_etl.partition import Partition

# What a reviewer answers who cannot say: with its slash it can never be a label of a task.
UNCLEAR = "mixed/unclear"


class Stratum(StrEnum):
    """Why a document was chosen. Only the random share says how often the labels are right."""

    RANDOM = "random"
    ERRORS = "errors"  # the encoder's label is not gold's
    DISAGREEMENTS = "disagreements"  # the encoder's label is not the LLM's


class Consensus(StrEnum):
    """What the answers about one document come to."""

    ACCEPTED = "accepted"
    UNCLEAR = UNCLEAR
    UNDECIDED = "undecided"  # all have answered, and no answer has more than half of them
    WAITING = "waiting"


class Key(NamedTuple):
    """A document as it was asked about. The same id with another text is another question."""

    id: str
    text_hash: str


@dataclass(frozen=True)
class Answer:
    annotator: str
    answer: str
    labelled_at: datetime.datetime | None
    partition: Partition


@dataclass(frozen=True)
class Reviewed:
    """One document, the last questions about it and the last answer of each annotator.

    `label`, `annotation` and `gold` are what the encoder, the LLM and gold said when it was last asked about.
    """

    key: Key
    partition: Partition
    strata: frozenset[Stratum]
    label: str
    annotation: str | None
    gold: str | None
    annotators: int
    answers: tuple[Answer, ...]

    @property
    def outcome(self) -> Consensus:
        if len(self.answers) < self.annotators:
            return Consensus.WAITING
        if self._most is None:
            return Consensus.UNDECIDED
        return Consensus.UNCLEAR if self._most == UNCLEAR else Consensus.ACCEPTED

    @property
    def verdict(self) -> str | None:
        """The label that people agree on, if there is one."""
        return self._most if self.outcome == Consensus.ACCEPTED else None

    @property
    def _most(self) -> str | None:
        """The answer of more than half of them: one who was asked alone, both of two, two of three."""
        counted = Counter(answer.answer for answer in self.answers).most_common(1)
        return next((said for said, count in counted if 2 * count > len(self.answers)), None)


def reviewed_as_of(lake: Tables, task: str, upto: Partition) -> dict[Key, Reviewed]:
    """Return what was asked and answered in partitions <= `upto`. A later question or answer wins over an earlier."""
    rows = collect(lake.scan("reviews", task, upto=upto)).sort("partition", "annotator", "stratum")
    answers: dict[Key, dict[str, Answer]] = defaultdict(dict)
    for row in rows.filter(pl.col("annotator").is_not_null()).iter_rows(named=True):
        answers[_key(row)][row["annotator"]] = Answer(
            row["annotator"], row["answer"], row["labelled_at"], Partition(row["partition"])
        )
    questions: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    for row in rows.filter(pl.col("annotator").is_null()).iter_rows(named=True):
        asked = questions[_key(row)]
        questions[_key(row)] = [each for each in asked if each["partition"] == row["partition"]] + [row]
    return {key: _reviewed(key, asked, answers[key]) for key, asked in questions.items()}


def _key(row: dict[str, Any]) -> Key:
    return Key(row["id"], row["text_hash"])


def _reviewed(key: Key, asked: list[dict[str, Any]], answers: dict[str, Answer]) -> Reviewed:
    last = asked[-1]
    return Reviewed(
        key=key,
        partition=Partition(last["partition"]),
        strata=frozenset(Stratum(row["stratum"]) for row in asked),
        label=last["label"],
        annotation=last["annotation"],
        gold=last["gold"],
        annotators=max(row["annotators"] for row in asked),
        answers=tuple(answers[name] for name in sorted(answers)),
    )
