"""One answer to a question counts: whoever writes adds no second one, and of two that are there a rule chooses."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from llambert_etl.config import LabellingTask
from llambert_etl.corpus.answers import labelled_answers, outcomes
from llambert_etl.lake import Lake
from llambert_etl.lake.upkeep import merge_small_files
from llambert_etl.manifest import Manifest
from llambert_etl.run import Run
from llambert_etl.schemas import TABLES
from llambert_etl.steps.check import check_annotations
from llambert_etl.steps.explain import explain
from tests.given.annotating import DAY, RuleAnnotator, annotations, even, ingest, run_annotate
from tests.given.tasks import REVISION, make_task
from tests.unit.quality import frames

Row = dict[str, Any]
TASK = make_task(annotator={"model": "tests/rule", "revision": REVISION, "sample": 300})


def labelled(row: Row) -> Row:
    return row


def unparsed(row: Row) -> Row:
    return {**row, "status": "unparsed", "label": None, "probabilities": None, "reason": "not_a_label", "reply": "Hm"}


def failed(row: Row) -> Row:
    return {**row, "status": "failed", "label": None, "probabilities": None, "reason": "http_500", "reply": ""}


def write_as_older_versions_did(lake: Lake, task: LabellingTask, *statuses: Any, n: int = frames.ROWS) -> None:
    """Write, for each text, a row of each status: one key each, when the status was part of it."""
    for status in statuses:
        rows = [status(row) for row in frames.annotations(task, n)]
        table = pa.Table.from_pylist(rows, schema=TABLES["annotations"].schema)
        write_deltalake(lake.table_uri("annotations"), table, mode="append")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(str(tmp_path / "lake"))
    made.create_tables()
    return made


@pytest.fixture
def corpus(lake: Lake) -> Lake:
    frames.put(lake, "documents", frames.documents(TASK), TASK)
    return lake


@pytest.mark.parametrize("order", [(unparsed, labelled), (labelled, unparsed)], ids=["label last", "label first"])
def test_a_table_with_two_answers_to_a_text_passes_its_gate_which_says_so(corpus: Lake, order: Any) -> None:
    write_as_older_versions_did(corpus, TASK, *order, n=200)
    write_as_older_versions_did(corpus, TASK, failed, n=300)
    wide = TASK.model_copy(update={"gates": TASK.gates.model_copy(update={"max_unparsed": 0.4})})
    said = check_annotations(Run(wide, DAY, "r"), lake=corpus, prompt_hash="p")
    assert said.rows == {"read": 300, "labelled": 200, "unparsed": 0, "failed": 100, "not_asked": 0}
    assert said.facts["profile"]["measures"]["answered_twice"] == 200  # type: ignore[index, call-overload]


def test_every_reader_sees_the_one_answer_that_counts(corpus: Lake) -> None:
    write_as_older_versions_did(corpus, TASK, failed, unparsed, labelled)
    assert outcomes(TASK.name, corpus) == {"labelled": 300}
    assert labelled_answers(TASK, corpus, "p").collect().height == 300
    assert [row["status"] for row in explain(TASK, "d1", lake=corpus).annotations] == ["labelled"]
    annotator = RuleAnnotator(lambda text: pytest.fail("asked again"))
    done = run_annotate(corpus, annotator, task=TASK, prompt_hash="p")
    assert done.rows == {"read": 300, "labelled": 0, "unparsed": 0, "failed": 0, "reused": 300}
    assert done.facts["label_shares"] == {"positive": 0.5, "negative": 0.5}


def test_of_answers_that_differ_in_nothing_but_their_label_the_same_counts_whatever_the_files(corpus: Lake) -> None:
    def other(row: Row) -> Row:
        return {**row, "label": "positive", "reply": "positive", "run": "a later one"}

    write_as_older_versions_did(corpus, TASK, labelled, other)
    before = labelled_answers(TASK, corpus, "p").select("text_hash", "label", "run").collect().sort("text_hash")
    merge_small_files(corpus, "annotations")
    after = labelled_answers(TASK, corpus, "p").select("text_hash", "label", "run").collect().sort("text_hash")
    assert before.equals(after)
    assert set(before["run"]) == {"a later one"}  # the smaller name


def put(lake: Lake, *rows: Row) -> int:
    """Append rows; return how many are there then."""
    table = pa.Table.from_pylist(list(rows), schema=TABLES["annotations"].schema)
    manifest = Manifest(step="test", task=TASK.name, partition=DAY, run="r")
    lake.append_once("annotations", TASK.name, DAY, table, manifest=manifest)
    return len(annotations(lake))


def test_a_question_that_is_answered_takes_no_other_row(lake: Lake) -> None:
    (row,) = frames.annotations(TASK, 1)
    later = {**row, "run": "r2"}
    assert put(lake, unparsed(row)) == 1
    assert put(lake, later) == put(lake, unparsed(later)) == put(lake, failed(later)) == 1
    assert put(lake, {**row, "prompt_hash": "another question"}) == 2


def test_a_failure_is_kept_once_a_run_until_there_is_an_answer(lake: Lake) -> None:
    (row,) = frames.annotations(TASK, 1)
    later = {**row, "run": "r2"}
    assert put(lake, failed(row)) == put(lake, failed(row)) == 1
    assert put(lake, failed(later), failed(later)) == 2
    assert put(lake, failed({**row, "run": "r3"}), row) == 3  # an answer beside a failure makes it needless
    assert put(lake, failed({**row, "run": "r4"})) == 3


def test_an_answer_that_another_run_gave_meanwhile_is_not_asked_for(lake: Lake) -> None:
    ingest(lake, TASK, DAY, range(20))

    def another(call: int) -> None:
        if call == 2:
            run_annotate(lake, RuleAnnotator(lambda text: "Mixed"), run="r2")

    ours = RuleAnnotator(even, before=another)
    done = run_annotate(lake, ours, clock=iter(range(0, 6000, 60)).__next__)
    # The first batch was written by then, the second in flight.
    assert (ours.calls, len(ours.asked)) == (2, 8)
    assert done.rows == {
        "read": 20,
        "labelled": 4,
        "unparsed": 0,
        "failed": 0,
        "answered_elsewhere": 16,
        "reused": 0,
    }
    assert (done.facts["asked"], done.facts["asked_in_vain"], done.tokens) == (8, 4, 24)
    assert len({row["text_hash"] for row in annotations(lake)}) == len(annotations(lake)) == 20


def test_a_run_that_another_is_always_ahead_of_goes_on_in_another_order(lake: Lake) -> None:
    ingest(lake, TASK, DAY, range(40))
    other = RuleAnnotator(even)
    ours = RuleAnnotator(even, before=lambda call: run_annotate(lake, other, run="r2", sample=4 * call) and None)
    done = run_annotate(lake, ours, clock=iter(range(0, 6000, 60)).__next__)
    assert done.facts["asked_in_vain"] < len(ours.asked) - 8
    assert len({row["text_hash"] for row in annotations(lake)}) == len(annotations(lake)) == 40


def test_an_answer_beats_the_failure_of_a_run_at_the_same_time(lake: Lake) -> None:
    ingest(lake, TASK, DAY, range(4))
    ours = RuleAnnotator(
        lambda text: None if text == "text 1" else even(text),
        before=lambda call: run_annotate(lake, RuleAnnotator(even), run="r2") and None,
    )
    assert run_annotate(lake, ours).rows == {
        "read": 4,
        "labelled": 0,
        "unparsed": 0,
        "failed": 0,
        "answered_elsewhere": 4,
        "reused": 0,
    }
