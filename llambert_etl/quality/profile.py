"""Profiles: what a gate measures, in polars, over every row of a partition. Memory follows neither."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from llambert_etl.lake import collect, count
from llambert_etl.quality.keys import Found, differences, repeated
from llambert_etl.schemas import TABLES, AnnotationStatus, DocumentStatus, TableName

Kind = Literal["documents", "annotations", "labels"]

# Row-level expectations look at this many rows; what must hold for every row is counted over all of them.
SAMPLE_ROWS = 10_000
_SAMPLE_SEED = 7
_EXAMPLES = 3
# Of the files that a message names.
_NAMED = 5
_NAME_CHARS = 60
_PROBABILITY_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Reference:
    """The label counts with which a partition is compared, and where they come from."""

    source: str
    counts: Mapping[str, int]

    @property
    def rows(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True)
class Profile:
    """One partition in numbers.

    `examples` are ids of offending rows, at most three for each measure; `made_of` says in words what a measure counts.
    """

    kind: Kind
    columns: dict[str, str]
    measures: dict[str, float] = field(default_factory=dict)
    label_counts: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    made_of: dict[str, str] = field(default_factory=dict)
    rows: pl.DataFrame = field(default_factory=pl.DataFrame)
    reference: Reference | None = None

    @property
    def label_shares(self) -> dict[str, float]:
        return shares(self.label_counts)


def shares(counts: Mapping[str, float]) -> dict[str, float]:
    """Return each count's part of the whole; all zero where there is nothing."""
    total = sum(counts.values())
    return {name: count / total if total else 0.0 for name, count in counts.items()}


def profile_documents(documents: pl.LazyFrame, recent_volumes: Sequence[int] = ()) -> Profile:
    """Profile one partition of `documents`; `recent_volumes` are the accepted rows of the partitions before it."""
    columns = _columns(documents)
    if not _as_declared("documents", columns):
        return Profile("documents", columns)
    accepted = pl.col("status") == DocumentStatus.ACCEPTED
    rejected = pl.col("status") == DocumentStatus.REJECTED
    faults = {
        "unknown_status": ~(accepted | rejected),
        "accepted_without_text": accepted & pl.col("text").is_null(),
        "accepted_without_hash": accepted & pl.col("text_hash").is_null(),
        "rejected_without_reason": rejected & pl.col("reason").is_null(),
        "rejected_with_text": rejected & pl.col("text").is_not_null(),
    }
    counts, examples = _count_faults(documents, faults)
    _note("duplicate", repeated(documents.filter(accepted), "id"), counts, examples)
    outcomes = _tally(documents, "status")
    total = sum(outcomes.values())
    outcomes = {status.value: outcomes.get(status, 0) for status in DocumentStatus}
    if total > sum(outcomes.values()):
        outcomes["unknown"] = total - sum(outcomes.values())
    measures = {
        **counts,
        "accepted": outcomes["accepted"],
        "rejected_share": outcomes["rejected"] / total if total else 0.0,
    }
    if recent_volumes:
        measures["recent_accepted"] = sorted(recent_volumes)[len(recent_volumes) // 2]
    text_chars = pl.col("text").str.len_chars().alias("text_chars")
    rows = _sample(documents.filter(accepted), outcomes["accepted"], "id", "text_hash", text_chars)
    reasons = _tally(documents.filter(rejected), "reason")
    files = _refused_files(documents.filter(rejected))
    measures["refused_files"] = files.height
    made_of = {"refused_files": _name_files(files), "rejected_share": _by_count(reasons)}
    if not outcomes["accepted"]:
        made_of["accepted"] = _by_count(reasons)
    return Profile("documents", columns, measures, {}, outcomes, reasons, examples, made_of, rows)


def profile_annotations(
    annotations: pl.LazyFrame, asked: int, labels: Sequence[str], *, twice: int = 0, for_good: int = 0
) -> Profile:
    """Profile the current sample's annotations, the row that counts for each text; `asked` is the size of the sample.

    `twice` is how many texts have an answer that does not count, `for_good` how many have none and get none.
    """
    columns = _columns(annotations)
    if not _as_declared("annotations", columns):
        return Profile("annotations", columns)
    labelled = pl.col("status") == AnnotationStatus.LABELLED
    faults = {
        "unknown_status": ~pl.col("status").is_in([status.value for status in AnnotationStatus]),
        "unknown_label": labelled & ~_known(labels),
        "label_without_status": (pl.col("status") != AnnotationStatus.LABELLED) & pl.col("label").is_not_null(),
        "wrong_probabilities": labelled & pl.col("probabilities").is_not_null() & ~_sound_probabilities(labels),
    }
    counts, examples = _count_faults(annotations, faults)
    _note("duplicate", repeated(annotations, "text_hash"), counts, examples)
    found = _tally(annotations, "status")
    answered = sum(found.values())
    outcomes = {status.value: found.get(status, 0) for status in AnnotationStatus}
    if answered > sum(outcomes.values()):
        outcomes["unknown"] = answered - sum(outcomes.values())
    outcomes["not_asked"] = max(asked - answered, 0)
    unusable = outcomes["unparsed"] + outcomes["failed"]
    measures = {
        **counts,
        "labelled": outcomes["labelled"],
        "unusable_share": unusable / answered if answered else 0.0,
        "answered_twice": twice,
        "failed_for_good": for_good,
    }
    label_counts = count_labels(annotations.filter(labelled), labels)
    _add_shares(measures, label_counts)
    reasons = _tally(annotations.filter(~labelled), "reason")
    rows = _sample(annotations, answered, "id", "text_hash", "tokens")
    made_of = {"unusable_share": _by_count(reasons)}
    return Profile("annotations", columns, measures, label_counts, outcomes, reasons, examples, made_of, rows)


def profile_labels(
    staged: pl.LazyFrame,
    accepted: pl.LazyFrame,
    labels: Sequence[str],
    reference: Reference | None = None,
    refused: int = 0,
) -> Profile:
    """Profile staged labels beside the accepted documents (id, text_hash) that they must match one to one.

    `refused` is how many rows of the day were: it tells a day that was emptied from one of which nothing was fit.
    """
    columns = _columns(staged)
    if not _as_declared("labels", columns):
        return Profile("labels", columns)
    faults = {
        "unknown_label": ~_known(labels),
        "wrong_confidence": ~pl.col("confidence").is_between(0.0, 1.0),
        "wrong_probabilities": ~_sound_probabilities(labels),
    }
    counts, examples = _count_faults(staged, faults)
    _note("duplicate", repeated(staged, "id"), counts, examples)
    for name, found in differences(staged, accepted).items():
        _note(name, found, counts, examples)
    versions = collect(staged.group_by("model_name", "model_version").len(), engine="streaming")
    number, total = versions.height, int(versions["len"].sum())
    label_counts = count_labels(staged, labels)
    measures = {**counts, "labelled": total, "model_versions": number, "arrived": count(accepted) + refused}
    _add_shares(measures, label_counts)
    columns_of_rows = "id", "text_hash", "model_name", "label", "confidence", "probabilities"
    rows = _with_confidence_gap(_sample(staged, total, *columns_of_rows))
    return Profile("labels", columns, measures, label_counts, {"labelled": total}, {}, examples, {}, rows, reference)


def count_labels(frame: pl.LazyFrame, labels: Sequence[str]) -> dict[str, int]:
    """Count the rows of each known label, in the order of `labels`."""
    found = _tally(frame.filter(_known(labels)), "label")
    return {label: found.get(label, 0) for label in labels}


def declared_columns(table: TableName) -> dict[str, str]:
    """Return the declared columns and their types, in the words in which profiles report them."""
    return _columns(pl.LazyFrame(pl.from_arrow(TABLES[table].schema.empty_table())))


def _columns(frame: pl.LazyFrame) -> dict[str, str]:
    return {name: str(kind) for name, kind in collect(frame.head(0)).schema.items()}


def _as_declared(table: TableName, columns: dict[str, str]) -> bool:
    declared = declared_columns(table)
    # An extra column fails its expectation but does not keep the others from being measured.
    return all(columns.get(name) == kind for name, kind in declared.items())


def _known(labels: Sequence[str]) -> pl.Expr:
    return pl.col("label").is_in(list(labels))


def _sound_probabilities(labels: Sequence[str]) -> pl.Expr:
    values = pl.col("probabilities").list.eval(pl.element().struct.field("probability"))
    names = pl.col("probabilities").list.eval(pl.element().struct.field("label"))
    return (
        (names.list.len() == len(labels))
        & pl.all_horizontal(names.list.contains(label) for label in labels)
        & ((values.list.sum() - 1.0).abs() <= _PROBABILITY_TOLERANCE)
        & (values.list.min() >= 0.0)
        & (values.list.eval(pl.element().is_not_nan() & pl.element().is_not_null()).list.all())
    )


def _with_confidence_gap(rows: pl.DataFrame) -> pl.DataFrame:
    """Add how far each row's confidence is from the probability of its own label."""
    numbered = rows.with_row_index("_row")
    own = (
        numbered.select("_row", "label", "confidence", "probabilities")
        .explode("probabilities")
        .with_columns(
            pl.col("probabilities").struct.field("label").alias("of"),
            pl.col("probabilities").struct.field("probability").alias("probability"),
        )
        # A confidence outside 0 to 1 has its own expectation.
        .filter(pl.col("of") == pl.col("label"), pl.col("confidence").is_between(0.0, 1.0))
        .select("_row", (pl.col("confidence") - pl.col("probability")).abs().alias("confidence_gap"))
    )
    return numbered.join(own, on="_row", how="left").drop("_row", "label", "confidence", "probabilities")


def _count_faults(frame: pl.LazyFrame, faults: Mapping[str, pl.Expr]) -> tuple[dict[str, float], dict[str, list[str]]]:
    """Count each fault in one pass. A comparison with null is a fault too: nothing unknown may pass."""
    sure = {name: fault.fill_null(True) for name, fault in faults.items()}
    counted = collect(frame.select(fault.sum().alias(name) for name, fault in sure.items()), engine="streaming")
    counts: dict[str, float] = counted.row(0, named=True)
    ids = {name: frame.filter(sure[name]).select("id").bottom_k(_EXAMPLES, by="id") for name in faults if counts[name]}
    return counts, {name: collect(found, engine="streaming")["id"].sort().to_list() for name, found in ids.items()}


def _note(name: str, found: Found, counts: dict[str, float], examples: dict[str, list[str]]) -> None:
    counts[name], ids = found
    if ids:
        examples[name] = ids


def _tally(frame: pl.LazyFrame, column: str) -> dict[str, int]:
    counted = frame.group_by(pl.col(column).fill_null("none")).len().sort(column)
    return dict(collect(counted, engine="streaming").iter_rows())


def _refused_files(rejected: pl.LazyFrame) -> pl.DataFrame:
    """Return the files that were refused, whole or from a row on, with the reason and how many rows that cost."""
    rows = rejected.filter(pl.col("reason").str.starts_with("file_"))
    return collect(rows.group_by("source", "reason").len().sort("source", "reason"), engine="streaming")


def _name_files(files: pl.DataFrame) -> str:
    named = [
        f"{source.rpartition('/')[2][:_NAME_CHARS]!r} {reason}{f', {count} rows' if count > 1 else ''}"
        for source, reason, count in files.head(_NAMED).iter_rows()
    ]
    return "; ".join(named) + (" ..." if files.height > _NAMED else "")


def _by_count(reasons: Mapping[str, int]) -> str:
    ranked = sorted(reasons.items(), key=lambda entry: (-entry[1], entry[0]))
    return ", ".join(f"{reason} {count}" for reason, count in ranked)


def _add_shares(measures: dict[str, float], counts: Mapping[str, int]) -> None:
    measures["labels_seen"] = sum(count > 0 for count in counts.values())
    measures.update({f"share_{label}": share for label, share in shares(counts).items()})


def _sample(frame: pl.LazyFrame, total: int, *columns: str | pl.Expr) -> pl.DataFrame:
    """Return the rows with the smallest hash of their id: the same rows each time, in no order of arrival."""
    rank = pl.col("id").hash(_SAMPLE_SEED).alias("_rank")
    # Among twice as many as are wanted, nearly always: of more, all columns would be held.
    likely = [frame.filter(rank < 2**65 * SAMPLE_ROWS // total)] if total > 2 * SAMPLE_ROWS else []
    for few in (*likely, frame):
        rows = collect(few.select(*columns, rank).bottom_k(SAMPLE_ROWS, by="_rank").drop("_rank"), engine="streaming")
        if rows.height == SAMPLE_ROWS:
            break
    return rows
