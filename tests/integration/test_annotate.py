"""The annotate step on a real lake: each document asked once, kept whatever was said, and accounted for."""

from collections import Counter

import pytest

from llambert_etl.corpus.documents import hash_text
from llambert_etl.lake import Lake
from llambert_etl.llm.parsing import PARSER_VERSION
from tests.given.annotating import DAY, NEXT, RuleAnnotator, annotations, even, ingest, run_annotate
from tests.given.tasks import REVISION, make_task, three_label_task


def _statuses(lake: Lake) -> Counter[object]:
    return Counter(row["status"] for row in annotations(lake))


def test_every_sampled_document_is_asked_once_and_kept(lake: Lake) -> None:
    ingest(lake, make_task(), DAY, range(10))
    annotator = RuleAnnotator(even)
    done = run_annotate(lake, annotator)
    assert done.rows == {"read": 10, "labelled": 10, "unparsed": 0, "failed": 0, "reused": 0}
    assert done.facts["label_shares"] == {"positive": 0.5, "negative": 0.5}
    assert done.tokens == 30
    assert sorted(annotator.asked) == sorted(f"text {number}" for number in range(10))
    for row in annotations(lake):
        assert row["id"] == f"id-text {str(row['id']).split()[-1]}"
        assert row["text_hash"] == hash_text(str(row["id"]).removeprefix("id-"))
        assert row["label"] == row["reply"] == even(str(row["id"]).removeprefix("id-"))
        assert row["probabilities"] == [
            {"label": row["label"], "probability": 0.9},
            {"label": "other", "probability": 0.1},
        ]
        assert (row["prompt_hash"], row["model"], row["revision"]) == ("p1", "tests/rule", REVISION)
        assert (row["parser_version"], row["run"], row["partition"]) == (PARSER_VERSION, "r1", str(DAY))


def test_three_labels_are_counted_apart(lake: Lake) -> None:
    task = three_label_task()
    ingest(lake, task, DAY, range(9))
    names = task.label_names
    done = run_annotate(lake, RuleAnnotator(lambda text: names[int(text.split()[1]) % 3]), task=task)
    assert done.facts["label_shares"] == dict.fromkeys(names, 1 / 3)


def test_a_second_run_asks_nothing(lake: Lake) -> None:
    ingest(lake, make_task(), DAY, range(10))
    first = run_annotate(lake, RuleAnnotator(even))
    again = RuleAnnotator(even)
    done = run_annotate(lake, again, run="r2")
    assert again.calls == 0
    assert done.rows == {"read": 10, "labelled": 0, "unparsed": 0, "failed": 0, "reused": 10}
    assert done.facts["label_shares"] == first.facts["label_shares"]
    assert len(annotations(lake)) == 10


def test_the_next_night_asks_only_about_new_texts(lake: Lake) -> None:
    task = make_task()
    ingest(lake, task, DAY, range(10))
    run_annotate(lake, RuleAnnotator(even))
    ingest(lake, task, NEXT, range(8, 13))
    night = RuleAnnotator(even)
    done = run_annotate(lake, night, partition=NEXT)
    assert sorted(night.asked) == ["text 10", "text 11", "text 12"]
    assert done.rows["read"] == 13
    assert done.rows["reused"] == 10


def test_a_larger_sample_asks_only_about_the_difference(lake: Lake) -> None:
    ingest(lake, make_task(), DAY, range(30))
    small, large = RuleAnnotator(even), RuleAnnotator(even)
    run_annotate(lake, small, sample=10)
    done = run_annotate(lake, large, sample=20)
    assert len(small.asked) == len(large.asked) == 10
    assert not set(small.asked) & set(large.asked)
    assert (done.rows["read"], done.rows["reused"]) == (20, 10)


@pytest.mark.parametrize(
    ("annotator", "prompt"),
    [
        (RuleAnnotator(even), "p2"),
        (RuleAnnotator(even, model="tests/other"), "p1"),
        (RuleAnnotator(even, revision="1" * 40), "p1"),
    ],
    ids=["prompt", "model", "revision"],
)
def test_another_prompt_model_or_revision_reuses_nothing_and_overwrites_nothing(
    lake: Lake, annotator: RuleAnnotator, prompt: str
) -> None:
    ingest(lake, make_task(), DAY, range(6))
    run_annotate(lake, RuleAnnotator(even))
    before = {str(row) for row in annotations(lake)}
    done = run_annotate(lake, annotator, prompt_hash=prompt)
    assert done.rows["labelled"] == 6
    after = {str(row) for row in annotations(lake)}
    assert before < after
    assert len(after) == 12


def test_unparsed_replies_are_kept_raw_and_never_asked_again(lake: Lake) -> None:
    ingest(lake, make_task(), DAY, range(6))
    done = run_annotate(lake, RuleAnnotator(lambda text: "Mixed"))
    assert done.rows == {"read": 6, "labelled": 0, "unparsed": 6, "failed": 0, "reused": 0}
    assert done.reasons == {"not_a_label": 6}
    assert {(row["label"], row["reply"], row["reason"]) for row in annotations(lake)} == {
        (None, "Mixed", "not_a_label")
    }
    again = RuleAnnotator(even)
    run_annotate(lake, again)
    assert again.calls == 0


def test_failed_answers_are_kept_and_asked_again_until_there_is_one(lake: Lake) -> None:
    ingest(lake, make_task(), DAY, range(6))
    failed = run_annotate(lake, RuleAnnotator(lambda text: None))
    run_annotate(lake, RuleAnnotator(lambda text: None))
    assert failed.rows["failed"] == 6
    assert _statuses(lake) == {"failed": 6}
    done = run_annotate(lake, RuleAnnotator(even))
    assert done.rows == {"read": 6, "labelled": 6, "unparsed": 0, "failed": 0, "reused": 0}
    assert _statuses(lake) == {"failed": 6, "labelled": 6}
    assert run_annotate(lake, RuleAnnotator(even)).rows["reused"] == 6


def test_the_extra_documents_of_a_strategy_are_asked_about_beside_the_sample(lake: Lake) -> None:
    ingest(lake, make_task(), DAY, range(30))
    asked = {"llm": RuleAnnotator(even), "llm+extra": RuleAnnotator(even)}
    for strategy, annotator in asked.items():
        task = make_task(annotator={"sample": 10, "extra": 15}, encoder={"strategy": strategy})
        run_annotate(lake, annotator, task=task)
    assert {strategy: len(annotator.asked) for strategy, annotator in asked.items()} == {"llm": 10, "llm+extra": 15}


def test_a_sample_smaller_than_asked_is_said(lake: Lake) -> None:
    ingest(lake, make_task(), DAY, range(3))
    done = run_annotate(lake, RuleAnnotator(lambda text: "positive"), sample=100)
    assert (done.facts["sample_wanted"], done.facts["sample"], done.facts["sample_is_short"]) == (100, 3, True)
    assert done.facts["label_shares"] == {"positive": 1.0, "negative": 0.0}


def test_an_empty_corpus_asks_nothing_and_commits_nothing(lake: Lake) -> None:
    before = lake.version("annotations")
    annotator = RuleAnnotator(even)
    done = run_annotate(lake, annotator)
    assert done.rows == {"read": 0, "labelled": 0, "unparsed": 0, "failed": 0, "reused": 0}
    assert annotator.calls == 0
    assert lake.version("annotations") == before


def test_documents_after_the_partition_are_not_seen(lake: Lake) -> None:
    ingest(lake, make_task(), NEXT, range(5))
    assert run_annotate(lake, RuleAnnotator(even), partition=DAY).rows["read"] == 0
