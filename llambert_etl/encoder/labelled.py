"""Texts with labels to learn from: taken from rows of a table, split, and brought to another process."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

Target = int | tuple[float, ...]


@dataclass(frozen=True)
class LabelledTexts:
    """Texts and the index of each one's label; `soft` has the probability of every label instead, to learn from."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]
    soft: tuple[tuple[float, ...], ...] | None = None

    @property
    def targets(self) -> Sequence[Target]:
        return self.labels if self.soft is None else self.soft


@dataclass(frozen=True)
class Stage:
    """What one stage of training learns from, and the rows that it is scored on."""

    train: LabelledTexts
    dev: LabelledTexts

    def write(self, folder: Path) -> None:
        folder.mkdir()
        for name, rows in (("train", self.train), ("dev", self.dev)):
            columns = {"text": rows.texts, "label": rows.labels, "soft": rows.soft or [None] * len(rows.texts)}
            schema = {"text": pl.String(), "label": pl.Int64(), "soft": pl.List(pl.Float64())}
            pl.DataFrame(columns, schema=schema).write_parquet(folder / f"{name}.parquet")


def labelled(rows: pl.DataFrame, names: Sequence[str]) -> LabelledTexts:
    """Take texts and labels; where the rows have `probabilities`, those are what is learnt."""
    soft = _soft(rows, names) if "probabilities" in rows.columns else None
    return LabelledTexts(tuple(rows["text"].to_list()), tuple(truth(rows, names).tolist()), soft)


def truth(rows: pl.DataFrame, names: Sequence[str]) -> npt.NDArray[np.int64]:
    index = {label: number for number, label in enumerate(names)}
    return np.asarray([index[label] for label in rows["label"].to_list()], dtype=np.int64)


def _soft(rows: pl.DataFrame, names: Sequence[str]) -> tuple[tuple[float, ...], ...]:
    """Return the annotator's probabilities in the task's label order; its label counts as certain without them."""
    targets = []
    for label, given in rows.select("label", "probabilities").iter_rows():
        known = {each["label"]: each["probability"] for each in given} if given else {label: 1.0}
        targets.append(tuple(known.get(name, 0.0) for name in names))
    return tuple(targets)


def read_stage(folder: Path) -> Stage:
    return Stage(_read(folder / "train.parquet"), _read(folder / "dev.parquet"))


def _read(path: Path) -> LabelledTexts:
    rows = pl.read_parquet(path)
    soft = None if rows["soft"].null_count() else tuple(map(tuple, rows["soft"].to_list()))
    return LabelledTexts(tuple(rows["text"]), tuple(rows["label"]), soft)


def split(rows: LabelledTexts, share: float, seed: int) -> Stage:
    """Give dev the `share` of each label, by hash of the text, whatever the order of the rows."""
    ranked = sorted(
        range(len(rows.texts)),
        key=lambda row: (rows.labels[row], hashlib.sha256(f"{seed}:{rows.texts[row]}".encode()).digest()),
    )
    train: list[int] = []
    dev: list[int] = []
    for label in sorted(set(rows.labels)):
        own = [row for row in ranked if rows.labels[row] == label]
        held = max(1, round(len(own) * share))
        dev += own[:held]
        train += own[held:]
    return Stage(_take(rows, train), _take(rows, dev))


def unseen(stages: Sequence[Stage]) -> LabelledTexts:
    """Return the rows of the last dev split that no stage was trained on; all of it where there are none."""
    learnt = {text for stage in stages for text in stage.train.texts}
    dev = stages[-1].dev
    return _take(dev, [row for row, text in enumerate(dev.texts) if text not in learnt] or range(len(dev.texts)))


def _take(rows: LabelledTexts, chosen: Sequence[int]) -> LabelledTexts:
    soft = None if rows.soft is None else tuple(rows.soft[row] for row in chosen)
    return LabelledTexts(tuple(rows.texts[row] for row in chosen), tuple(rows.labels[row] for row in chosen), soft)
