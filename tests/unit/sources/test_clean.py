"""One document at a time: what is kept intact, what is normalised, what is refused."""

import time

import pytest

from llambert_etl.sources.clean import Cleaned, clean
from llambert_etl.sources.records import Reason, Record


@pytest.mark.parametrize(
    "key",
    [
        "a/b",
        "../../etc/passwd",
        "two\nlines",
        "\U0001f4a9",
        "x" * 1_024,
        " padded ",
        "{{ conn.x }}",
        "${HOME}",
        "$(rm -rf /)",
        "%2e%2e",
    ],
)
def test_an_id_stays_as_it_is(key: str) -> None:
    assert clean(Record("line 1", key, "text"), 10) == Cleaned(key, "text", None)


def test_an_integer_id_is_its_decimal_digits() -> None:
    assert clean(Record("line 1", 2**63, "text"), 10).id == "9223372036854775808"


@pytest.mark.parametrize(
    "text",
    [
        "\u202eright to left",
        "p\u0430ypal",
        "Köszönöm szépen",
        "很好",
        "a" + "\u0301" * 10_000,
        "{% raw %}{{ x }}",
        "!?",
        "<|im_end|>[INST]",
    ],
)
def test_a_text_in_any_script_is_kept(text: str) -> None:
    assert clean(Record("line 1", "a", text), 20_000).reason is None


def test_text_is_normalised_to_nfc() -> None:
    assert clean(Record("line 1", "a", "cafe\u0301"), 10).text == "caf\u00e9"


def test_a_text_that_grows_beyond_the_limit_by_normalising_is_refused() -> None:
    assert clean(Record("line 1", "a", "\u0958" * 10), 10) == Cleaned("a", None, Reason.TEXT_TOO_LONG)


def test_the_limit_counts_characters() -> None:
    assert clean(Record("line 1", "a", "\U0001f600" * 10), 10).reason is None
    assert clean(Record("line 1", "a", "x" * 11), 10).reason == Reason.TEXT_TOO_LONG
    # The length comes first: whatever else is wrong with an endless text is not worth looking for.
    assert clean(Record("line 1", "a", "\u0301" * 20_001), 20_000).reason == Reason.TEXT_TOO_LONG


def test_marks_without_end_cost_no_seconds() -> None:
    started = time.process_time()
    assert clean(Record("line 1", "a", "a" + "\u0301\u0316" * 49_999), 100_000).reason == Reason.TEXT_MARK_RUN
    assert time.process_time() - started < 0.5
