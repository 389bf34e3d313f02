"""Ways to spoil sound rows, and the profiles of rows that somebody has spoilt."""

from collections.abc import Callable
from typing import Any

from llambert_etl.config import LabellingTask
from llambert_etl.quality import (
    Profile,
    profile_annotations,
    profile_documents,
    profile_labels,
)
from tests.given.tasks import make_task
from tests.unit.quality import frames

TASK = make_task(gates={"max_drift": 0.1})
Row = dict[str, Any]
Spoil = Callable[[list[Row]], None]


def change(index: int, **values: Any) -> Spoil:
    return lambda rows: rows[index].update(values)


def change_all(**values: Any) -> Spoil:
    return lambda rows: [row.update(values) for row in rows] and None


def repeat(index: int) -> Spoil:
    return lambda rows: rows.append(dict(rows[index]))


def relabel(task: LabellingTask, counts: dict[str, int]) -> Spoil:
    def spoil(rows: list[Row]) -> None:
        names = [name for name, count in counts.items() for _ in range(count)]
        for row, name in zip(rows, names, strict=True):
            row.update(label=name, probabilities=frames.probabilities(task, name))

    return spoil


def reject(share: float) -> Spoil:
    def spoil(rows: list[Row]) -> None:
        for row in rows[: int(share * len(rows))]:
            row.update(status="rejected", reason="empty", text=None, text_hash=None)

    return spoil


def only_rejected(rows: list[Row]) -> None:
    del rows[:-1]


def documents_profile(spoil: Spoil | None = None, volumes: tuple[int, ...] = (300, 310)) -> Profile:
    rows = frames.documents(TASK)
    if spoil:
        spoil(rows)
    return profile_documents(frames.frame("documents", rows), volumes)


def annotations_profile(spoil: Spoil | None = None, task: LabellingTask = TASK) -> Profile:
    rows = frames.annotations(task)
    if spoil:
        spoil(rows)
    return profile_annotations(frames.frame("annotations", rows), frames.ROWS, task.label_names)


def labels_profile(
    spoil: Spoil | None = None, task: LabellingTask = TASK, n: int = frames.ROWS, refused: int = 0
) -> Profile:
    rows, accepted = frames.labels(task, n), frames.labels(task, n)
    if spoil:
        spoil(rows)
    documents = frames.frame("labels", accepted).select("id", "text_hash")
    reference = frames.even_reference(task)
    return profile_labels(frames.frame("labels", rows), documents, task.label_names, reference, refused)
