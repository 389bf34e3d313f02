"""Trained points of a study: what one recipe learns from certain rows, measured on gold. Each is paid for once."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from pydantic import BaseModel

from llambert_etl.config import LabellingTask, Recipe, fingerprint
from llambert_etl.lake import Lake
from llambert_etl.settings import Settings

if TYPE_CHECKING:
    from llambert_etl.encoder.inference import Encoder

# Part of every key: change it with any change of what the same rows and recipe would give.
_VERSION = 4


@dataclass(frozen=True)
class Point:
    """One training to be measured: `series` and `x` say where it stands in the study's plot, `stages` what is learnt.

    `x` is a number of labels or a share; None where the study compares names alone.
    """

    series: str
    x: float | None
    recipe: Recipe
    stages: tuple[pl.DataFrame, ...]


class Measured(BaseModel, frozen=True, extra="forbid"):
    """What an encoder scores on the test split of gold. `seconds` is what training it and those before it took."""

    accuracy: float
    macro_f1: float
    f1: dict[str, float]
    tested: int
    seconds: float


class Points:
    """The measured points of a task, each a small file of the lake, named by all that it follows from.

    A study that was cut off goes on with the point that it was at; one that varies something else shares its points.
    """

    def __init__(self, task: LabellingTask, test: pl.DataFrame, lake: Lake, settings: Settings) -> None:
        self._task, self._test, self._lake, self._settings = task, test, lake, settings

    def find(self, point: Point) -> Measured | None:
        found = self._lake.storage.read(self._key(point, point.stages))
        return None if found is None else Measured.model_validate_json(found)

    def measure(self, point: Point) -> Measured:
        """Train the point, unless a longer training has measured it meanwhile as one of its stages."""
        return self.find(point) or self._train(point)

    def _train(self, point: Point) -> Measured:
        from llambert_etl.encoder.inference import Encoder
        from llambert_etl.encoder.labelled import LabelledTexts, labelled
        from llambert_etl.encoder.training import fine_tune

        started, ended = time.monotonic(), 0

        def after_stage(encoder: Encoder) -> None:
            # The encoder between two stages is the one that the first of them give alone.
            nonlocal ended
            ended += 1
            self._write(point, point.stages[:ended], self._evaluate(encoder, started))

        names = self._task.label_names
        rows = [labelled(stage, names) for stage in point.stages]
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "encoder"
            fine_tune(point.recipe, names, rows, LabelledTexts((), ()), self._settings, out, after_stage)
            measured = self._evaluate(Encoder.load(out), started)
        self._write(point, point.stages, measured)
        return measured

    def _evaluate(self, encoder: "Encoder", started: float) -> Measured:
        from llambert_etl.encoder.metrics import measure

        seconds = time.monotonic() - started
        found = measure(encoder, self._test, self._task.label_names).evaluation
        return Measured(
            accuracy=found.accuracy,
            macro_f1=found.macro_f1,
            f1={label: scores.f1 for label, scores in found.per_class.items()},
            tested=found.n,
            seconds=round(seconds, 1),
        )

    def _key(self, point: Point, stages: Sequence[pl.DataFrame]) -> str:
        rows = [frame.drop("text").rows() for frame in (*stages, self._test)]
        recipe = {name: value for name, value in point.recipe.identity().items() if name != "strategy"}
        labels = list(self._task.labels)
        return f"_studies/{self._task.name}/{fingerprint([_VERSION, labels, recipe, rows])}.json"

    def _write(self, point: Point, stages: Sequence[pl.DataFrame], measured: Measured) -> None:
        self._lake.storage.write(self._key(point, stages), [measured.model_dump_json().encode()])
