"""Gates between two steps: profiles over all rows, expectation suites from the task's gates, Data Docs."""

from llambert_etl.quality.docs import render
from llambert_etl.quality.profile import (
    Kind,
    Profile,
    Reference,
    count_labels,
    profile_annotations,
    profile_documents,
    profile_labels,
)
from llambert_etl.quality.suites import MIN_ROWS_FOR_SHARES, Expectation, build_suite
from llambert_etl.quality.validation import Outcome, Validation, validate

__all__ = [
    "MIN_ROWS_FOR_SHARES",
    "Expectation",
    "Kind",
    "Outcome",
    "Profile",
    "Reference",
    "Validation",
    "build_suite",
    "count_labels",
    "profile_annotations",
    "profile_documents",
    "profile_labels",
    "render",
    "validate",
]
