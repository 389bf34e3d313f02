"""A reply that an older parser found no label in is read by the present one: in its place, and nobody is asked."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from llambert_etl.corpus.answers import answered_twice, labelled_answers, outcomes
from llambert_etl.lake import Lake
from llambert_etl.llm.parsing import PARSER_VERSION
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.schemas import TABLES
from llambert_etl.steps.check import check_annotations
from tests.given.annotating import NEXT, RuleAnnotator, annotations, run_annotate
from tests.given.tasks import REVISION, make_task
from tests.unit.quality import frames

TASK = make_task(annotator={"model": "tests/rule", "revision": REVISION, "sample": 300})
DAY = Partition(frames.DAY)
UNREAD = {"status": "unparsed", "label": None, "probabilities": None, "reason": "not_a_label", "reply": "Positive."}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(str(tmp_path / "lake"))
    made.create_tables()
    frames.put(made, "documents", frames.documents(TASK), TASK)
    return made


def written(lake: Lake, *unread: dict[str, Any]) -> None:
    """Write an answer to each text; the first ones differ in what is given."""
    rows = frames.annotations(TASK)
    rows[: len(unread)] = [row | UNREAD | each for row, each in zip(rows, unread, strict=False)]
    table = pa.Table.from_pylist(rows, schema=TABLES["annotations"].schema)
    write_deltalake(lake.table_uri("annotations"), table, mode="append")


def annotate(lake: Lake, day: Partition = DAY) -> Manifest:
    silent = RuleAnnotator(lambda text: pytest.fail("asked again"))
    return run_annotate(lake, silent, task=TASK, prompt_hash="p", partition=day, run="night")


def test_a_reply_that_holds_a_label_after_all_counts_once_and_for_everybody(lake: Lake) -> None:
    written(lake, {}, {"reply": "negative"})
    before = {row["id"]: row for row in annotations(lake)}
    done = annotate(lake, NEXT)
    assert done.rows == {"read": 300, "labelled": 0, "unparsed": 0, "failed": 0, "reused": 300}
    assert done.facts["read_again"] == 2
    rows = {row["id"]: row for row in annotations(lake)}
    changed = {"status": "labelled", "reason": None, "parser_version": PARSER_VERSION}
    assert rows == before | {
        "d0": before["d0"] | changed | {"label": "positive"},
        "d1": before["d1"] | changed | {"label": "negative"},
    }
    assert answered_twice(lake.scan("annotations", TASK.name)).collect().is_empty()
    assert (outcomes(TASK.name, lake), labelled_answers(TASK, lake, "p").collect().height) == ({"labelled": 300}, 300)
    assert check_annotations(Run(TASK, NEXT, "night"), lake=lake, prompt_hash="p").rows["labelled"] == 300
    version = lake.version("annotations")
    assert "read_again" not in annotate(lake, NEXT).facts
    assert lake.version("annotations") == version


@pytest.mark.parametrize(
    "unread",
    [
        pytest.param({"reply": "Hm"}, id="no label in it"),
        pytest.param({"reply": ""}, id="nothing kept"),
        pytest.param({"parser_version": PARSER_VERSION}, id="read by this parser"),
        pytest.param({"parser_version": "99"}, id="read by a later parser"),
        pytest.param({"reason": "choices_disagree"}, id="not for the parser's reasons"),
        pytest.param({"prompt_hash": "another"}, id="another question"),
        pytest.param({"reply": "The label is: positive"}, id="perhaps cut off"),
    ],
)
def test_other_rows_stay_as_they_are(lake: Lake, unread: dict[str, Any]) -> None:
    frames.put(lake, "documents", frames.documents(TASK)[1:], TASK)  # nobody need answer about the text of the row
    written(lake, unread)
    before = annotations(lake)
    assert "read_again" not in annotate(lake).facts
    assert annotations(lake) == before


def test_a_label_that_an_older_parser_gave_stays(lake: Lake) -> None:
    written(lake, {"status": "labelled", "label": "positive", "reason": None, "reply": "not positive"})
    annotate(lake)
    assert annotations(lake)[0]["label"] == "positive"


def test_a_reply_beside_a_label_is_not_read(lake: Lake) -> None:
    written(lake)
    written(lake, {"reply": "negative"})
    before = sorted(map(str, annotations(lake)))
    annotate(lake)
    assert sorted(map(str, annotations(lake))) == before
