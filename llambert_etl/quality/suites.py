"""Suites: the expectations of each gate, built from the task's gates. Plain data, so nothing heavy is imported."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from llambert_etl.config import LabellingTask
from llambert_etl.quality.profile import Kind, Profile, declared_columns, shares

# A share of few rows says little: with 100, a class of 5 % is missing by chance in 6 days of a thousand.
MIN_ROWS_FOR_SHARES = 100
_MIN_VOLUME = 0.1
_CONFIDENCE_TOLERANCE = 1e-6
_HASH = r"^[0-9a-f]{64}$"

Frame = Literal["measures", "rows", "labels", "columns", "types"]


@dataclass(frozen=True)
class Expectation:
    """One expectation: `kind` is Great Expectations' class, `measure` the column of `frame` that it looks at.

    A failed `critical` one stops the run; a failed `warning` is reported.
    """

    name: str
    expected: str
    kind: str
    frame: Frame
    measure: str
    arguments: dict[str, object] = field(default_factory=dict)
    severity: Literal["critical", "warning"] = "critical"


def build_suite(
    task: LabellingTask, profile: Profile, gold: Mapping[str, float] = MappingProxyType({})
) -> tuple[list[Expectation], dict[str, str]]:
    """Return the expectations and, for each that was left out, why. `gold` has the share of each label of gold.

    Where a declared column is absent or of another type nothing else can be measured, so nothing else is expected.
    """
    suite = _table_shape(profile)
    if not profile.measures:
        return suite, {"all but columns and types": "the columns are not the declared ones"}
    expected = [each for rule in RULES[profile.kind] for each in rule(task, profile, gold)]
    if profile.kind == "annotations":
        return suite + expected, {}
    return suite + expected, (_skipped_documents if profile.kind == "documents" else _skipped_labels)(profile)


def _table_shape(profile: Profile) -> list[Expectation]:
    declared = declared_columns(profile.kind)
    pairs = [(name, kind) for name, kind in declared.items()]
    return [
        Expectation(
            "columns",
            f"exactly {', '.join(declared)}",
            "ExpectColumnDistinctValuesToEqualSet",
            "columns",
            "column",
            {"value_set": list(declared)},
        ),
        Expectation(
            "column types",
            "the declared types",
            "ExpectColumnPairValuesToBeInSet",
            "types",
            "column",
            {"column_A": "column", "column_B": "type", "value_pairs_set": pairs},
        ),
    ]


def _documents(task: LabellingTask, profile: Profile, _: Mapping[str, float]) -> list[Expectation]:
    suite = [
        _at_most("rejected share", "rejected_share", task.gates.max_rejected, "max_rejected"),
        _refused_files(task.gates.max_refused_files),
        _none("rows of unknown status", "unknown_status"),
        _none("accepted documents without text", "accepted_without_text"),
        _none("accepted documents without text hash", "accepted_without_hash"),
        _none("rejected rows without reason", "rejected_without_reason"),
        _none("rejected rows that kept their text", "rejected_with_text"),
        _none("repeated ids", "duplicate"),
        _rows_between("characters in a text", "text_chars", 1, task.source.max_chars),
        _hashes(),
    ]
    if not _arrived(profile):
        return suite
    suite.append(_at_least("accepted documents", "accepted", 1))
    recent = profile.measures.get("recent_accepted", 0)
    if recent:
        suite.append(_volume(recent))
    return suite


def _refused_files(limit: int) -> Expectation:
    return Expectation(
        "refused files",
        f"<= {limit} (mend them, or have source.uri match fewer names, or raise gates.max_refused_files)",
        "ExpectColumnMaxToBeBetween",
        "measures",
        "refused_files",
        {"max_value": limit},
    )


def _arrived(profile: Profile) -> bool:
    """Tell a day on which nothing came, which is no fault, from one whose rows were all refused."""
    return sum(profile.outcomes.values()) > 0


def _volume(recent: float) -> Expectation:
    # A quiet day is no fault, so it only warns.
    return _at_least("volume beside recent partitions", "accepted", _MIN_VOLUME * recent, severity="warning")


def _skipped_documents(profile: Profile) -> dict[str, str]:
    if not _arrived(profile):
        return {"accepted documents": "nothing arrived on this day"}
    if profile.measures.get("recent_accepted", 0):
        return {}
    return {"volume beside recent partitions": "there is no earlier partition with documents"}


def _annotations(task: LabellingTask, _: Profile, gold: Mapping[str, float]) -> list[Expectation]:
    return [
        _at_least("labelled documents", "labelled", 1),
        _at_most("unparsed and failed share", "unusable_share", task.gates.max_unparsed, "max_unparsed"),
        _none("rows of unknown status", "unknown_status"),
        _none("labels outside the task's label set", "unknown_label"),
        _none("labels on rows that are not labelled", "label_without_status"),
        _none("probabilities that are not a distribution over the labels", "wrong_probabilities"),
        _none("rows beside the one that counts", "duplicate"),
        # By a rule one answer counts, so none of these is in doubt.
        _none("texts answered twice, of which one answer counts", "answered_twice", severity="warning"),
        _none("documents failed for good", "failed_for_good", severity="warning"),
        _rows_between("tokens", "tokens", 0, None),
        _hashes(),
        *_label_shares(task, gold),
    ]


def _labels(task: LabellingTask, profile: Profile, gold: Mapping[str, float]) -> list[Expectation]:
    suite = [
        _none("accepted documents without a label", "missing"),
        _none("labels without an accepted document", "extra"),
        _none("labels of another text than the document's", "other_text"),
        _none("repeated ids", "duplicate"),
        _none("labels outside the task's label set", "unknown_label"),
        _none("confidences outside 0 to 1", "wrong_confidence"),
        _none("probabilities that are not a distribution over the labels", "wrong_probabilities"),
        _at_most("model versions", "model_versions", 1),
        _rows_between("confidence beside the label's own probability", "confidence_gap", 0, _CONFIDENCE_TOLERANCE),
        _hashes(),
    ]
    if profile.measures["arrived"]:
        suite.append(_at_least("labelled documents", "labelled", 1))
    if _enough(profile):
        suite += _label_shares(task, gold)
        if profile.reference is not None:
            suite.append(_drift(task, profile.reference.counts))
    return suite


def _skipped_labels(profile: Profile) -> dict[str, str]:
    if not _enough(profile):
        few = f"{number(profile.measures['labelled'])} rows, fewer than {MIN_ROWS_FOR_SHARES}"
        emptied = {} if profile.measures["arrived"] else {"labelled documents": "the day was emptied"}
        return {**emptied, "label shares": few, "drift": few}
    return {} if profile.reference else {"drift": "nothing to compare with yet"}


def _enough(profile: Profile) -> bool:
    return profile.measures["labelled"] >= MIN_ROWS_FOR_SHARES


def _label_shares(task: LabellingTask, gold: Mapping[str, float]) -> list[Expectation]:
    return [
        # Stands by itself: a task may set its floor to 0, and one class for every text is still a collapse.
        _at_least("labels in use", "labels_seen", 2),
        *(
            _at_least(f"share of {label!r}", f"share_{label}", floor, gate="min_label_share")
            for label, floor in task.share_floors(gold).items()
        ),
    ]


def _drift(task: LabellingTask, reference: Mapping[str, int]) -> Expectation:
    # Half a row for each label: one that the reference never saw is unlikely, not infinitely unlikely.
    weights = shares({label: reference[label] + 0.5 for label in task.labels})
    return Expectation(
        "drift of label shares (KL divergence)",
        f"<= {number(task.gates.max_drift)}{_named('max_drift')}",
        "ExpectColumnKLDivergenceToBeLessThan",
        "labels",
        "label",
        {
            "partition_object": {"values": list(weights), "weights": list(weights.values())},
            "threshold": task.gates.max_drift,
        },
    )


def _at_least(
    name: str,
    measure: str,
    limit: float,
    severity: Literal["critical", "warning"] = "critical",
    gate: str | None = None,
) -> Expectation:
    arguments: dict[str, object] = {"min_value": limit}
    expected = f">= {number(limit)}{_named(gate)}"
    return Expectation(name, expected, "ExpectColumnMinToBeBetween", "measures", measure, arguments, severity)


def _at_most(name: str, measure: str, limit: float, gate: str | None = None) -> Expectation:
    expected = f"<= {number(limit)}{_named(gate)}"
    return Expectation(name, expected, "ExpectColumnMaxToBeBetween", "measures", measure, {"max_value": limit})


def _named(gate: str | None) -> str:
    """Say which field of the task file sets a limit."""
    return f" (gates.{gate})" if gate else ""


def _none(name: str, measure: str, severity: Literal["critical", "warning"] = "critical") -> Expectation:
    return Expectation(name, "none", "ExpectColumnMaxToBeBetween", "measures", measure, {"max_value": 0}, severity)


def _rows_between(name: str, column: str, low: float, high: float | None) -> Expectation:
    expected = f">= {number(low)}" if high is None else f"{number(low)} to {number(high)}"
    limits: dict[str, object] = {"min_value": low} if high is None else {"min_value": low, "max_value": high}
    return Expectation(name, expected, "ExpectColumnValuesToBeBetween", "rows", column, limits)


def _hashes() -> Expectation:
    return Expectation(
        "text hashes",
        "64 hexadecimal digits",
        "ExpectColumnValuesToMatchRegex",
        "rows",
        "text_hash",
        {"regex": _HASH},
    )


def number(value: float) -> str:
    """Write a number as messages and reports do: counts bare, shares with at least two digits."""
    if value == int(value) and (isinstance(value, int) or abs(value) >= 2):
        return f"{int(value)}"
    return f"{value:.2f}" if round(value, 2) == value else f"{value:.4g}"


Rule = Callable[[LabellingTask, Profile, Mapping[str, float]], list[Expectation]]
# What each gate expects; a rule of its own is a line here.
RULES: Final[dict[Kind, list[Rule]]] = {
    "documents": [_documents],
    "annotations": [_annotations],
    "labels": [_labels],
}
