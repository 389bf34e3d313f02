"""The Arrow schema and the key of every table."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import pyarrow as pa

TableName = Literal["documents", "annotations", "gold", "labels", "promotions", "reviews"]


class DocumentStatus(StrEnum):
    ACCEPTED = "accepted"
    REJECTED = "rejected"  # kept without its text, with the reason and the place


class AnnotationStatus(StrEnum):
    LABELLED = "labelled"
    UNPARSED = "unparsed"  # the model answered, but not with a label; the raw reply is kept
    FAILED = "failed"  # the model did not answer; asked again by later runs, until it has failed for good


PROBABILITIES = pa.list_(
    pa.field("element", pa.struct([pa.field("label", pa.string()), pa.field("probability", pa.float64())]))
)
_TIMESTAMP = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Table:
    """One Delta table, partitioned by task and partition; `key` is unique within its `scope`.

    Rows of the status `open` leave their key open: each run of each partition may add one, until a row of another
    status has the key.
    """

    about: str
    schema: pa.Schema
    key: tuple[str, ...]
    scope: Literal["partition", "task"]
    open: str | None = None


def _table(
    about: str,
    key: tuple[str, ...],
    scope: Literal["partition", "task"],
    *fields: tuple[str, pa.DataType],
    open: str | None = None,
) -> Table:
    both = (("task", pa.string()), ("partition", pa.string()), *fields)
    return Table(about, pa.schema([pa.field(name, kind) for name, kind in both]), key, scope, open)


TABLES: dict[TableName, Table] = {
    "documents": _table(
        "What was read, `accepted` or `rejected`. `place` is a line (`line 7`), a row (`row 7`) or, for undecodable "
        "bytes, an offset (`byte 1234`) in `source`.",
        ("id",),
        "partition",
        ("id", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("source", pa.string()),
        ("place", pa.string()),
        ("text", pa.string()),
        ("text_hash", pa.string()),
        ("run", pa.string()),
    ),
    "annotations": _table(
        "What the LLM said: `labelled`, `unparsed` or `failed`. A question has one answer; each run that got none adds "
        "a `failed` row, until there is one. `tokens` counts the prompt and the reply.",
        ("text_hash", "prompt_hash", "model", "revision"),
        "task",
        ("id", pa.string()),
        ("text_hash", pa.string()),
        ("prompt_hash", pa.string()),
        ("model", pa.string()),
        ("revision", pa.string()),
        ("parser_version", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("label", pa.string()),
        ("probabilities", PROBABILITIES),
        ("reply", pa.string()),
        ("tokens", pa.int64()),
        ("run", pa.string()),
        open=AnnotationStatus.FAILED.value,
    ),
    "gold": _table(
        "Labels that people gave. `split` is `train` (may be learnt from) or `test` (decides gates and metrics, never "
        "learnt from). An id in a later partition is a newer revision and wins.",
        ("id",),
        "partition",
        ("id", pa.string()),
        ("text", pa.string()),
        ("text_hash", pa.string()),
        ("label", pa.string()),
        ("split", pa.string()),
        ("annotator", pa.string()),
        ("labelled_at", _TIMESTAMP),
        ("run", pa.string()),
    ),
    "labels": _table(
        "The labels that are served, one for each accepted document. `confidence` is the probability of `label`; "
        "probabilities have 16 significant bits, which are nearly five digits.",
        ("id",),
        "partition",
        ("id", pa.string()),
        ("text_hash", pa.string()),
        ("label", pa.string()),
        ("confidence", pa.float64()),
        ("probabilities", PROBABILITIES),
        ("model_name", pa.string()),
        ("model_version", pa.int64()),
        ("config_hash", pa.string()),
        ("run", pa.string()),
    ),
    "promotions": _table(
        "Each move of the champion. `number` counts the moves of a task; `moved_by` is `promote`, `rollback` or "
        "`by hand`; `evidence` is JSON.",
        ("number",),
        "task",
        ("number", pa.int64()),
        ("from_version", pa.int64()),
        ("to_version", pa.int64()),
        ("moved_by", pa.string()),
        ("reason", pa.string()),
        ("evidence", pa.string()),
        ("moved_at", _TIMESTAMP),
        ("run", pa.string()),
    ),
    "reviews": _table(
        "What people are asked, and what they answer. A question has a stratum and no annotator: `label`, `annotation` "
        "and `gold` are what the encoder, the LLM and gold said when it was asked, `annotators` how many answers it "
        "waits for. An answer has an annotator and no stratum.",
        ("id", "text_hash", "stratum", "annotator"),
        "partition",
        ("id", pa.string()),
        ("text_hash", pa.string()),
        ("stratum", pa.string()),
        ("label", pa.string()),
        ("annotation", pa.string()),
        ("gold", pa.string()),
        ("model_name", pa.string()),
        ("model_version", pa.int64()),
        ("annotators", pa.int64()),
        ("annotator", pa.string()),
        ("answer", pa.string()),
        ("labelled_at", _TIMESTAMP),
        ("run", pa.string()),
    ),
}
