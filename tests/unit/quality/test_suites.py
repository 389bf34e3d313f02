"""Each expectation has rows that fail it and no other."""

import polars as pl
import pytest

from llambert_etl.config import LabellingTask
from llambert_etl.quality import (
    Profile,
    build_suite,
    profile_annotations,
    profile_documents,
    profile_labels,
    validate,
)
from llambert_etl.quality.validation import Outcome
from tests.given.tasks import make_task, three_label_task
from tests.unit.quality import frames
from tests.unit.quality.spoilt import (
    TASK,
    Row,
    Spoil,
    annotations_profile,
    change,
    change_all,
    documents_profile,
    labels_profile,
    only_rejected,
    reject,
    relabel,
    repeat,
)

LENIENT = make_task(gates={"min_label_share": 0.0, "max_drift": 100.0})


def failed(task: LabellingTask, profile: Profile) -> list[str]:
    return [outcome.name for outcome in outcomes(task, profile) if not outcome.passed]


def outcomes(task: LabellingTask, profile: Profile) -> list[Outcome]:
    suite, _ = build_suite(task, profile)
    return validate(profile.kind, profile, suite).outcomes


def every_expectation(task: LabellingTask, profile: Profile) -> set[str]:
    return {expectation.name for expectation in build_suite(task, profile)[0]}


DOCUMENTS: list[tuple[str, Spoil]] = [
    ("rejected share", reject(0.6)),
    ("refused files", change(-1, reason="file_corrupt")),
    ("rows of unknown status", change(0, status="odd")),
    ("accepted documents without text", change(0, text=None)),
    ("accepted documents without text hash", change(0, text_hash=None)),
    ("rejected rows without reason", change(-1, reason=None)),
    ("rejected rows that kept their text", change(-1, text="kept")),
    ("repeated ids", repeat(0)),
    ("characters in a text", change(0, text="")),
    ("text hashes", change(0, text_hash="ABC")),
]

ANNOTATIONS: list[tuple[str, Spoil]] = [
    ("rows of unknown status", change(0, status="odd", label=None, probabilities=None)),
    ("labels outside the task's label set", change(0, label="odd")),
    ("labels on rows that are not labelled", change(0, status="unparsed")),
    ("probabilities that are not a distribution over the labels", change(0, probabilities=[])),
    ("rows beside the one that counts", repeat(0)),
    ("tokens", change(0, tokens=-1)),
    ("text hashes", change(0, text_hash="ABC")),
    ("share of 'negative'", relabel(TASK, {"positive": 290, "negative": 10})),
    ("share of 'positive'", relabel(TASK, {"positive": 10, "negative": 290})),
    (
        "unparsed and failed share",
        lambda rows: [row.update(status="failed", label=None, probabilities=None) for row in rows[:40]] and None,
    ),
]

WARNED = ("texts answered twice, of which one answer counts", "documents failed for good")

LABELS: list[tuple[str, Spoil]] = [
    ("accepted documents without a label", lambda rows: rows.pop(0) and None),
    ("labels without an accepted document", lambda rows: rows.append(frames.label_row(TASK, 999, "positive"))),
    ("labels of another text than the document's", change(0, text_hash=frames.digest("older"))),
    ("repeated ids", repeat(0)),
    ("confidences outside 0 to 1", change(0, confidence=1.5)),
    ("confidences outside 0 to 1", change(0, confidence=None)),
    ("model versions", change(0, model_version=2)),
    ("model versions", change(0, model_name="llambert.other")),
    ("confidence beside the label's own probability", change(0, confidence=0.5)),
    ("drift of label shares (KL divergence)", relabel(TASK, {"positive": 270, "negative": 30})),
]


@pytest.mark.parametrize("task", [TASK, three_label_task()], ids=["two labels", "three labels"])
def test_sound_rows_pass_every_expectation(task: LabellingTask) -> None:
    assert failed(task, documents_profile()) == []
    assert failed(task, annotations_profile(task=task)) == []
    assert failed(task, labels_profile(task=task)) == []


@pytest.mark.parametrize(("name", "spoil"), DOCUMENTS)
def test_a_document_fault_fails_its_expectation_and_no_other(name: str, spoil: Spoil) -> None:
    assert failed(TASK, documents_profile(spoil)) == [name]


@pytest.mark.parametrize(("name", "spoil"), ANNOTATIONS)
def test_an_annotation_fault_fails_its_expectation_and_no_other(name: str, spoil: Spoil) -> None:
    assert failed(TASK, annotations_profile(spoil)) == [name]


@pytest.mark.parametrize(("name", "spoil"), LABELS)
def test_a_label_fault_fails_its_expectation_and_no_other(name: str, spoil: Spoil) -> None:
    assert failed(TASK, labels_profile(spoil)) == [name]


def test_a_label_outside_the_set_fails_that_and_has_no_probability_of_its_own() -> None:
    assert failed(TASK, labels_profile(change(0, label="odd"))) == ["labels outside the task's label set"]


def test_a_malformed_hash_fails_only_that_where_the_document_has_it_too() -> None:
    rows = frames.labels(TASK)
    change(0, text_hash="ABC")(rows)
    staged = frames.frame("labels", rows)
    profile = profile_labels(staged, staged, TASK.label_names, frames.even_reference(TASK))
    assert failed(TASK, profile) == ["text hashes"]


def test_probabilities_that_do_not_sum_to_one_fail_only_that() -> None:
    wrong = [{"label": "positive", "probability": 0.9}, {"label": "negative", "probability": 0.4}]
    name = "probabilities that are not a distribution over the labels"
    assert failed(TASK, labels_profile(change(0, probabilities=wrong))) == [name]
    nan = [{"label": "positive", "probability": 0.9}, {"label": "negative", "probability": float("nan")}]
    assert failed(TASK, labels_profile(change(0, probabilities=nan))) == [name]


def test_a_day_without_accepted_documents_fails() -> None:
    lenient = make_task(gates={"max_rejected": 1.0})
    assert failed(lenient, documents_profile(only_rejected, volumes=())) == ["accepted documents"]


def test_no_labelled_annotation_fails() -> None:
    lenient = make_task(gates={"max_unparsed": 1.0, "min_label_share": 0.0})
    spoil = change_all(status="unparsed", label=None, probabilities=None)
    # Without a label there is none in use either: the two say the same of nothing.
    assert failed(lenient, annotations_profile(spoil)) == ["labelled documents", "labels in use"]


def test_a_day_that_was_emptied_may_lose_its_labels_and_one_of_which_all_was_refused_may_not() -> None:
    emptied = labels_profile(n=0)
    assert failed(TASK, emptied) == []
    assert set(build_suite(TASK, emptied)[1]) == {"labelled documents", "label shares", "drift"}
    assert failed(TASK, labels_profile(n=0, refused=1)) == ["labelled documents"]


def test_one_label_for_all_fails_even_where_the_floor_is_zero() -> None:
    collapsed = relabel(LENIENT, {"positive": 300})
    assert failed(LENIENT, annotations_profile(collapsed, LENIENT)) == ["labels in use"]
    assert failed(LENIENT, labels_profile(collapsed, LENIENT)) == ["labels in use"]


def test_a_share_below_its_floor_fails_only_that_among_staged_labels() -> None:
    task = make_task(gates={"max_drift": 100.0})
    for missing, counts in [("negative", (290, 10)), ("positive", (10, 290))]:
        spoil = relabel(task, dict(zip(task.label_names, counts, strict=True)))
        assert failed(task, labels_profile(spoil, task)) == [f"share of '{missing}'"]


def test_a_share_is_told_with_its_rows_and_the_field_that_sets_its_floor() -> None:
    task = make_task(gates={"max_drift": 100.0})
    (outcome,) = [o for o in outcomes(task, annotations_profile(relabel(task, {"positive": 6, "negative": 294}), task))
                  if not o.passed]  # fmt: skip
    assert outcome.sentence() == (
        "share of 'positive': observed 0.02 (6 of 300 rows), expected >= 0.05 (gates.min_label_share)"
    )


def test_a_floor_that_the_file_leaves_out_fits_what_gold_has() -> None:
    task = make_task(gates={"min_label_share": None})
    spoiled = relabel(task, {"positive": 6, "negative": 294})
    rare, even = ({"positive": share, "negative": 1 - share} for share in (0.02, 0.5))

    def judged(gold: dict[str, float]) -> list[str]:
        profile = annotations_profile(spoiled, task)
        found = validate(profile.kind, profile, build_suite(task, profile, gold)[0])
        return [outcome.name for outcome in found.failures]

    assert judged(rare) == []
    assert judged(even) == judged({}) == ["share of 'positive'"]


def test_a_third_label_that_vanishes_is_named() -> None:
    task = three_label_task(gates={"max_drift": 100.0})
    spoil = relabel(task, {"sports": 150, "business": 150, "science": 0})
    assert failed(task, labels_profile(spoil, task)) == ["share of 'science'"]
    assert failed(task, annotations_profile(spoil, task)) == ["share of 'science'"]


def test_shares_of_few_staged_rows_are_not_judged_and_the_suite_says_so() -> None:
    profile = labels_profile(relabel(TASK, {"positive": 99}), n=99)
    assert failed(TASK, profile) == []
    assert set(build_suite(TASK, profile)[1]) == {"label shares", "drift"}


def test_a_low_volume_only_warns() -> None:
    found = [o for o in outcomes(TASK, documents_profile(volumes=(10_000,))) if not o.passed]
    assert [(o.name, o.severity, o.stops) for o in found] == [("volume beside recent partitions", "warning", False)]


def test_texts_answered_twice_and_documents_failed_for_good_only_warn() -> None:
    rows = frames.frame("annotations", frames.annotations(TASK))
    profile = profile_annotations(rows, frames.ROWS, TASK.label_names, twice=2, for_good=3)
    found = [o for o in outcomes(TASK, profile) if not o.passed]
    assert [(o.name, o.observed, o.stops) for o in found] == [(WARNED[0], "2", False), (WARNED[1], "3", False)]


@pytest.mark.parametrize("column", ["id", "text_hash", "label", "confidence", "probabilities", "model_version"])
def test_a_missing_or_retyped_column_fails_only_its_own_expectation(column: str) -> None:
    sound = frames.frame("labels", frames.labels(TASK))
    documents = sound.select("id", "text_hash")
    missing = profile_labels(sound.drop(column), documents, TASK.label_names)
    assert failed(TASK, missing) == ["columns"]
    retyped = profile_labels(sound.with_columns(pl.lit(True).alias(column)), documents, TASK.label_names)
    assert failed(TASK, retyped) == ["column types"]


@pytest.mark.parametrize("kind", ["documents", "annotations", "labels"])
def test_an_unexpected_column_fails_only_the_columns(kind: str) -> None:
    extra = pl.lit(1).alias("extra")
    profiles = {
        "documents": lambda: profile_documents(frames.frame("documents", frames.documents(TASK)).with_columns(extra)),
        "annotations": lambda: profile_annotations(
            frames.frame("annotations", frames.annotations(TASK)).with_columns(extra), frames.ROWS, TASK.label_names
        ),
        "labels": lambda: profile_labels(
            frames.frame("labels", frames.labels(TASK)).with_columns(extra),
            frames.frame("labels", frames.labels(TASK)),
            TASK.label_names,
        ),
    }
    found = [o for o in outcomes(TASK, profiles[kind]()) if not o.passed]
    assert [(o.name, o.observed) for o in found] == [("columns", "'extra' is unexpected")]


def test_every_expectation_has_a_fixture_that_fails_it() -> None:
    shape = {"columns", "column types"}
    alone = {"labelled documents", "labels in use", "labels outside the task's label set"}
    odd = {"probabilities that are not a distribution over the labels", "text hashes"}
    shares = {"share of 'positive'", "share of 'negative'"}
    covered = {name for name, _ in DOCUMENTS} | shape | {"accepted documents", "volume beside recent partitions"}
    assert every_expectation(TASK, documents_profile()) == covered
    assert every_expectation(TASK, annotations_profile()) == {
        *(name for name, _ in ANNOTATIONS),
        *WARNED,
        *shape,
        *alone,
    }
    assert every_expectation(TASK, labels_profile()) == {name for name, _ in LABELS} | shape | alone | odd | shares


def test_offending_ids_are_named_and_never_more_than_three() -> None:
    def spoil(rows: list[Row]) -> None:
        for row in rows[:9]:
            row.update(label="odd")

    (outcome,) = [o for o in outcomes(TASK, labels_profile(spoil)) if not o.passed]
    assert outcome.sentence() == (
        "labels outside the task's label set: observed 9 (ids 'd0', 'd1', 'd2'), expected none"
    )
