"""Gather where the label of one document came from: file, text, LLM, people, training, model and gates."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from llambert_etl.config import LabellingTask
from llambert_etl.corpus.answers import decided
from llambert_etl.errors import DataError
from llambert_etl.facts import Published
from llambert_etl.lake import Lake, collect
from llambert_etl.manifest import Manifest
from llambert_etl.pages import report_name
from llambert_etl.partition import Partition
from llambert_etl.registry import ModelVersion
from llambert_etl.schemas import TableName

Row = dict[str, Any]


@dataclass(frozen=True)
class Origin:
    """Rows as the tables have them. `label` is None while the document is not labelled; `model` made it.

    Where the document has changed since, `label` is still that of the earlier text, as its `text_hash` says.
    `annotations` and `gold` are what the LLM and people have said of the same text, whatever the id. `others` are the
    other days that have the id.
    """

    document: Row
    others: list[Partition]
    label: Row | None
    model: ModelVersion | None
    gate: str | None
    promotions: list[Row]
    annotations: list[Row]
    gold: list[Row]


def explain(task: LabellingTask, document: str, *, lake: Lake, partition: Partition | None = None) -> Origin:
    """Trace a document of a partition, or of the last that has it. Raise DataError where there is none of this id."""
    anywhere = _rows(lake, "documents", task, None, pl.col("id") == document)
    days = sorted({Partition(row["partition"]) for row in anywhere})
    found = [row for row in anywhere if partition in (None, row["partition"])]
    if not found:
        where = f"partition {partition}, but in {', '.join(days)}" if days else "any partition"
        raise DataError(f"{task.name}: no document with id {document!r} in {where}; look the id up in `documents`")
    row = max(found, key=lambda each: (each["partition"], each["status"] == "accepted"))
    day = Partition(row["partition"])
    label = next(iter(_rows(lake, "labels", task, day, pl.col("id") == document)), None)
    published = None if label is None else _published(lake, task, day)
    same_text = pl.col("text_hash") == (row["text_hash"] or "")  # a refused row may have none
    return Origin(
        document=row,
        others=[each for each in days if each != row["partition"]],
        label=label,
        model=None if published is None else ModelVersion.model_validate(Published.of(published).model),
        # The run that has published need not be the one that has staged the row.
        gate=None if label is None else _gate(lake, task, day, published.run if published else label["run"]),
        promotions=[] if label is None else _promotions(lake, task, label["model_version"]),
        annotations=_said(lake, task, same_text),
        gold=_rows(lake, "gold", task, None, same_text),
    )


def _said(lake: Lake, task: LabellingTask, same_text: pl.Expr) -> list[Row]:
    """Return the answer that counts to each question about a text."""
    rows = collect(decided(lake.scan("annotations", task.name).filter(same_text)))
    return rows.sort("partition", maintain_order=True).to_dicts()


def _rows(
    lake: Lake, table: TableName, task: LabellingTask, partition: Partition | None, condition: pl.Expr
) -> list[Row]:
    return collect(lake.scan(table, task.name, partition).filter(condition)).sort("partition").to_dicts()


def _published(lake: Lake, task: LabellingTask, day: Partition) -> Manifest | None:
    """Return the account of the labels' commit, which knows the model though the registry may be down."""
    commit = lake.last_commit("labels", task.name, day)
    return None if commit is None else commit.manifest


def _gate(lake: Lake, task: LabellingTask, day: Partition, run: str) -> str:
    """Return where `check labels` keeps the report of a run."""
    return f"{lake.uri}/_reports/{task.name}/{day}/{report_name('labels', run)}"


def _promotions(lake: Lake, task: LabellingTask, version: int) -> list[Row]:
    return sorted(
        _rows(lake, "promotions", task, None, pl.col("to_version") == version), key=lambda move: move["number"]
    )
