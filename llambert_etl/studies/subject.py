"""What a study is of, and what every kind of study comes to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from llambert_etl.config import LabellingTask
from llambert_etl.lake import Lake
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.studies.plan import StudyPlan
from llambert_etl.studies.summary import Scored

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Subject:
    """A task as of a partition, and what its plan varies. What is asked for it is kept under the run's name."""

    run: Run
    plan: StudyPlan
    prompt_hash: str
    lake: Lake
    settings: Settings

    @property
    def task(self) -> LabellingTask:
        return self.run.task

    @property
    def partition(self) -> Partition:
        return self.run.partition


class Result(NamedTuple):
    """`rows` accounts for points or documents as a manifest does; `findings` are for people."""

    outcomes: list[Scored]
    findings: Mapping[str, str]
    rows: dict[str, int]
    tokens: int = 0
    usd: float = 0.0
