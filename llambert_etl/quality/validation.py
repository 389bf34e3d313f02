"""Run a suite through Great Expectations: the only module that imports it, inside functions, for it takes seconds."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llambert_etl.imports import sparingly
from llambert_etl.quality.profile import Profile, declared_columns, shares
from llambert_etl.quality.suites import Expectation, Frame, number

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.core import ExpectationSuiteValidationResult

# The labels frame holds this many rows at most, in the proportions of all rows.
_LABEL_ROWS = 10_000
# Great Expectations does without other data than frames of pandas, and asks the last two where it measures a drift or
# draws a chart. All of them together take longer to import than it does.
_NOT_ASKED = ("boto3", "botocore", "google", "psycopg2", "pyspark", "sqlalchemy")
_RARELY_ASKED = ("scipy.stats", "altair")


@dataclass(frozen=True)
class Outcome:
    """What became of one expectation, in words."""

    name: str
    observed: str
    expected: str
    passed: bool
    severity: str = "critical"

    @property
    def stops(self) -> bool:
        return not self.passed and self.severity == "critical"

    def sentence(self) -> str:
        return f"{self.name}: observed {self.observed}, expected {self.expected}"


@dataclass(frozen=True)
class Validation:
    """All outcomes of a gate, and Great Expectations' own result for its Data Docs."""

    outcomes: list[Outcome]
    result: "ExpectationSuiteValidationResult"

    @property
    def failures(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.stops]


def validate(name: str, profile: Profile, suite: list[Expectation]) -> Validation:
    """Evaluate every expectation of the suite against the profile's frames."""
    # Read when the library is imported. Nothing may be sent out, and an ephemeral context writes nothing.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with sparingly(absent=_NOT_ASKED, later=_RARELY_ASKED):
        import great_expectations as gx
    from great_expectations.core import ExpectationSuiteValidationResult
    from great_expectations.data_context.types.base import ProgressBarsConfig

    # It sets its own logger to INFO at import, and tells of each of its temporary folders.
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    frames = _frames(profile)
    results: dict[str, Any] = {}
    for frame in dict.fromkeys(expectation.frame for expectation in suite):
        batch = (
            context.data_sources.add_pandas(frame)
            .add_dataframe_asset(frame)
            .add_batch_definition_whole_dataframe(frame)
            .get_batch({"dataframe": frames[frame]})
        )
        mine = [expectation for expectation in suite if expectation.frame == frame]
        checked = batch.validate(_gx_suite(name, mine), result_format=_RESULT_FORMAT)
        results.update({_key(entry): entry for entry in checked.results})
    ordered = [results[expectation.name] for expectation in suite]
    outcomes = [_outcome(entry, expectation, profile) for entry, expectation in zip(ordered, suite, strict=True)]
    passed = sum(outcome.passed for outcome in outcomes)
    statistics = {
        "evaluated_expectations": len(outcomes),
        "successful_expectations": passed,
        "unsuccessful_expectations": len(outcomes) - passed,
        "success_percent": 100.0 * passed / len(outcomes),
    }
    success = not any(outcome.stops for outcome in outcomes)
    result = ExpectationSuiteValidationResult(
        success=success, results=ordered, suite_name=name, statistics=statistics, meta={}
    )
    return Validation(outcomes, result)


# No unexpected value is kept: a value can be a text. Counts say how much, the profile's examples say which ids.
_RESULT_FORMAT = {"result_format": "BASIC", "partial_unexpected_count": 0}


def _gx_suite(name: str, expectations: list[Expectation]) -> Any:
    from great_expectations import ExpectationSuite
    from great_expectations import expectations as library

    made = []
    for entry in expectations:
        arguments = dict(entry.arguments)
        if "column_A" not in arguments:
            arguments["column"] = entry.measure
        description = f"{entry.name}: {entry.expected}"
        made.append(
            getattr(library, entry.kind)(
                **arguments, severity=entry.severity, description=description, meta={"name": entry.name}
            )
        )
    return ExpectationSuite(name=name, expectations=made)


def _key(entry: Any) -> str:
    return str(entry.expectation_config.meta["name"])


def _frames(profile: Profile) -> Mapping[Frame, "pd.DataFrame"]:
    import pandas as pd

    declared = declared_columns(profile.kind)
    typed = [(name, kind) for name, kind in profile.columns.items() if name in declared]
    total = sum(profile.label_counts.values())
    rows = min(total, _LABEL_ROWS)
    label_column = [label for label, share in shares(profile.label_counts).items() for _ in range(round(share * rows))]
    return {
        "measures": pd.DataFrame([profile.measures]),
        "rows": pd.DataFrame(profile.rows.to_dict(as_series=False)),
        "labels": pd.DataFrame({"label": label_column}),
        "columns": pd.DataFrame({"column": list(profile.columns)}),
        "types": pd.DataFrame(typed, columns=["column", "type"]),
    }


def _outcome(entry: Any, expectation: Expectation, profile: Profile) -> Outcome:
    found = entry.result
    # numpy's floats break Great Expectations' renderers.
    if isinstance(found.get("observed_value"), float):
        found["observed_value"] = float(found["observed_value"])
    observed = _observed(found, expectation, profile)
    return Outcome(expectation.name, observed, expectation.expected, bool(entry.success), expectation.severity)


def _observed(found: Mapping[str, Any], expectation: Expectation, profile: Profile) -> str:
    if expectation.frame in ("columns", "types"):
        return _shape(profile)
    if expectation.frame == "rows":
        return f"{found.get('unexpected_count', 0)} of {found.get('element_count', 0)} rows otherwise"
    if expectation.frame == "labels":
        value = found.get("observed_value")
        return "no value" if value is None else number(value)
    measured = number(profile.measures[expectation.measure])
    if (label := expectation.measure.removeprefix("share_")) != expectation.measure:
        return f"{measured} ({profile.label_counts[label]} of {sum(profile.label_counts.values())} rows)"
    examples = profile.examples.get(expectation.measure)
    said = f"ids {', '.join(map(repr, examples))}" if examples else profile.made_of.get(expectation.measure)
    return f"{measured}{f' ({said})' if said else ''}"


def _shape(profile: Profile) -> str:
    """Say what differs from the declared columns, in one phrase."""
    declared = declared_columns(profile.kind)
    missing = [f"{name!r} is missing" for name in declared if name not in profile.columns]
    extra = [f"{name!r} is unexpected" for name in profile.columns if name not in declared]
    other = [
        f"{name!r} is {profile.columns[name]}, not {kind}"
        for name, kind in declared.items()
        if profile.columns.get(name, kind) != kind
    ]
    return "; ".join(missing + extra + other) or "as declared"
