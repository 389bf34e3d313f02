"""How agreement is measured, and that no cell of a review is a formula."""

import math
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from llambert_etl.partition import Partition
from llambert_etl.reviews.agreement import MAX_PEOPLE, accuracy, alpha, kappa, report
from llambert_etl.reviews.files import harmless, unharmed
from llambert_etl.reviews.reviewed import UNCLEAR, Answer, Consensus, Key, Reviewed, Stratum

DAY = Partition("2026-11-10")

# Krippendorff's own example of three observers, "." where one has said nothing: alpha 0.691
OBSERVERS = (".....34121133.3", "1.213343.......", "..21344.21133.4")


def reviewed(
    *said: str, label: str = "positive", gold: str | None = None, asked: int = 1, stratum: Stratum = Stratum.RANDOM
) -> Reviewed:
    answers = tuple(Answer(f"person {number}", answer, None, DAY) for number, answer in enumerate(said))
    return Reviewed(Key("id", "hash"), DAY, frozenset({stratum}), label, None, gold, asked, answers)


@given(st.text(alphabet=st.sampled_from("=+-@\t\r\n'a\u00e91 "), max_size=5) | st.text())
def test_a_cell_is_no_formula_and_comes_back_as_it_was(cell: str) -> None:
    assert harmless(cell)[:1] not in list("=+-@\t\r\n")
    assert unharmed(harmless(cell)) == cell


@pytest.mark.parametrize("cell", ["=1", "plain", "it's", "'", "' quoted"])
def test_a_cell_that_a_spreadsheet_or_a_person_has_written_is_taken_as_it_is(cell: str) -> None:
    assert unharmed(cell) == cell


def test_alpha_is_that_of_krippendorff_s_example() -> None:
    said = {str(number): [None if value == "." else value for value in row] for number, row in enumerate(OBSERVERS)}
    found = alpha(said)
    assert found["value"] == pytest.approx(0.6914, abs=1e-4)
    assert found["n"] == 12  # judged by two or more
    assert found["low"] < found["value"] < found["high"]


CASES = [
    (list("ppppnnnnmp"), list("pppnnnnpmm")),
    (list("ppppp"), list("nnnnn")),
    (list("pn" * 20), list("pn" * 20)),
    (list("p" * 39 + "n"), list("n" + "p" * 39)),
]


@pytest.mark.parametrize(("one", "other"), CASES)
def test_kappa_is_that_of_scikit_learn_with_an_interval_around_it(one: list[str], other: list[str]) -> None:
    found = kappa([*one, None, "p"], [*other, "p", None])
    assert found["n"] == len(one)
    assert found["value"] == pytest.approx(cohen_kappa_score(one, other), abs=1e-4)
    assert found["low"] <= found["value"] <= found["high"]


def test_the_interval_of_kappa_is_that_of_drawing_documents_again() -> None:
    one, other = list("ppppnnnnpp") * 8, list("pppnnnnppp") * 8
    found = kappa(one, other)
    # The standard error by the usual large-sample formula, where p is 0.8 and chance agreement is 0.52.
    half = 1.96 * math.sqrt(0.8 * 0.2 / 80) / (1 - 0.52)
    assert found["value"] - found["low"] == pytest.approx(half, rel=0.2)
    assert found["high"] - found["value"] == pytest.approx(half, rel=0.2)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"ada": []},
        {"ada": ["p", "n"]},
        {"ada": ["p", "p"], "bob": ["p", "p"]},
        {"ada": ["p", None], "bob": [None, "n"]},
    ],
)
def test_agreement_that_nothing_can_be_said_of_is_null_and_no_warning(said: dict[str, list[str | None]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert alpha(said)["value"] is None
        assert kappa(said.get("ada", []), said.get("bob", [None] * len(said.get("ada", []))))["value"] is None
        assert accuracy([]) == {"n": 0, "of": 0, "value": None, "low": None, "high": None}


def test_accuracy_has_a_wilson_interval_and_leaves_out_what_nobody_decided() -> None:
    found = accuracy([("p", "p")] * 9 + [("p", "n"), ("p", None), (None, "p")])
    assert found == {"n": 10, "of": 11, "value": 0.9, "low": 0.5958, "high": 0.9821}


@pytest.mark.parametrize(
    ("said", "asked", "outcome", "verdict"),
    [
        (["positive"], 1, Consensus.ACCEPTED, "positive"),
        (["positive"], 2, Consensus.WAITING, None),
        (["positive", "negative"], 2, Consensus.UNDECIDED, None),
        (["positive", "negative"], 1, Consensus.UNDECIDED, None),
        (["positive", "negative", "positive"], 2, Consensus.ACCEPTED, "positive"),
        (["positive", "negative", UNCLEAR], 3, Consensus.UNDECIDED, None),
        ([UNCLEAR, UNCLEAR, "positive"], 3, Consensus.UNCLEAR, None),
        ([], 1, Consensus.WAITING, None),
    ],
)
def test_a_verdict_is_what_more_than_half_of_enough_answers_say(
    said: list[str], asked: int, outcome: Consensus, verdict: str | None
) -> None:
    found = reviewed(*said, asked=asked)
    assert (found.outcome, found.verdict) == (outcome, verdict)


def test_models_are_compared_with_people_on_the_random_share_only() -> None:
    random = [reviewed("positive", "positive"), reviewed("negative", "negative")]
    found = report([*random, reviewed("negative", "positive", stratum=Stratum.ERRORS, gold="negative")])
    assert [pair["n"] for pair in found.agreement["people"]["kappa"]] == [3]
    assert [(pair["between"], pair["n"]) for pair in found.agreement["encoder"]["kappa"]] == [
        (["person 0", "encoder"], 2),
        (["person 1", "encoder"], 2),
    ]
    assert found.agreement["llm"]["alpha"]["n"] == found.agreement["encoder"]["alpha"]["n"] == 2
    assert found.accuracy["encoder"]["n"] == 2


def test_a_report_stays_small_however_many_people_answer() -> None:
    crowd = [reviewed(*["positive"] * 40), reviewed(*["negative"] * 40)]
    pairs = report(crowd).agreement["people"]["kappa"]
    assert len(pairs) == MAX_PEOPLE * (MAX_PEOPLE - 1) / 2
