"""A document that is forgotten while another step has it in hand comes into no table by that step."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from llambert_etl.corpus.documents import hash_text
from llambert_etl.errors import DataError, TransientError
from llambert_etl.lake import Lake, StagedFiles
from llambert_etl.partition import Partition
from llambert_etl.reviews.reviewed import Stratum
from llambert_etl.run import Run
from llambert_etl.schemas import TableName
from llambert_etl.settings import Settings
from llambert_etl.steps.forget import forget
from llambert_etl.steps.gold import import_gold
from llambert_etl.steps.plan import plan
from tests.given.annotating import RuleAnnotator, annotations, even, run_annotate
from tests.given.labelling import Parity, Shelf, finish, label_run, run_shards
from tests.given.landing import DAY, Landing
from tests.given.poison import jsonl
from tests.given.reviews import Panel
from tests.given.tasks import make_task

NEXT = Partition("2026-11-11")
GONE = "ada"


class Meanwhile(Lake):
    """A lake in which somebody forgets a document when the next step has staged its rows."""

    def stage(
        self, table: TableName, task: str, partition: Partition, chunks: Iterable[pa.Table], *, name: str
    ) -> StagedFiles:
        staged = super().stage(table, task, partition, chunks, name=name)
        forget(make_task(name=task), [GONE], run="f1", lake=Lake(self.uri))
        return staged


class AtTheLastMoment(Lake):
    """A lake in which somebody forgets a document between the last look of a writer and its first commit."""

    forgets = True

    def _write(self, *arguments: Any, **options: Any) -> None:
        if self.forgets:
            self.forgets = False
            forget(make_task(), [GONE], run="f1", lake=Lake(self.uri))
        super()._write(*arguments, **options)


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    landing = Landing(tmp_path)
    landing.drop("a.jsonl", jsonl({"id": GONE, "text": "a secret"}, {"id": "bob", "text": "no secret"}))
    return landing


@pytest.fixture(params=[Meanwhile, AtTheLastMoment])
def meanwhile(request: pytest.FixtureRequest, landing: Landing) -> Lake:
    lake: Lake = request.param(landing.lake.uri)
    return lake


def test_an_ingest_of_it_is_refused_and_the_next_keeps_nothing_of_it(landing: Landing, meanwhile: Lake) -> None:
    before, landing.lake = landing.lake, meanwhile
    with pytest.raises(TransientError, match="forgotten"):
        landing.ingest()
    landing.lake = before
    assert landing.ingest().rows == {"read": 2, "accepted": 1, "rejected": 1}
    assert landing.accepted() == ["bob"]


def test_an_import_of_gold_about_it_is_refused_and_the_next_leaves_it_out(landing: Landing, meanwhile: Lake) -> None:
    landing.ingest()
    gold = landing.folder / "gold.jsonl"
    said = ["positive", "negative"] * 6
    others = [{"id": f"g{number}", "text": f"text {number}", "label": label} for number, label in enumerate(said)]
    gold.write_bytes(jsonl(*others, {"id": GONE, "text": "a secret", "label": "negative"}))
    run, settings = Run(landing.task, DAY, "r1"), landing.settings
    with pytest.raises(TransientError, match="forgotten"):
        import_gold(run, gold, lake=meanwhile, settings=settings)
    assert import_gold(run, gold, lake=landing.lake, settings=settings).facts["forgotten"] == 1
    assert GONE not in landing.lake.scan("gold", landing.task.name).collect()["id"]


def test_the_first_label_run_of_its_day_is_not_published_and_the_next_has_no_label_of_it(
    landing: Landing, tmp_path: Path
) -> None:
    landing.ingest()
    lake, task, shelf = landing.lake, landing.task, Shelf(landing.task, 1)
    settings = Settings(lake=lake.uri, state=tmp_path / "state")
    plan(Run(task, DAY, "r1"), lake=lake, registry=shelf, settings=settings)  # type: ignore[arg-type]
    run_shards(lake, task, settings, DAY, "r1", Parity(2))
    forget(task, [GONE], run="f1", lake=lake)
    with pytest.raises(DataError, match="forgotten"):
        finish(lake, task, DAY, "r1")
    assert lake.scan("labels", task.name).collect().is_empty()
    assert label_run(lake, task, shelf, settings, run="r1")[0].rows["read"] == 1
    assert lake.scan("labels", task.name).collect()["id"].to_list() == ["bob"]


def test_labels_that_are_about_to_be_published_are_not(landing: Landing, tmp_path: Path) -> None:
    landing.ingest()
    lake, task, shelf = landing.lake, landing.task, Shelf(landing.task, 1)
    settings = Settings(lake=lake.uri, state=tmp_path / "state")
    plan(Run(task, DAY, "r1"), lake=lake, registry=shelf, settings=settings)  # type: ignore[arg-type]
    run_shards(lake, task, settings, DAY, "r1", Parity(2))
    with pytest.raises(DataError, match=r"1 documents of this run were forgotten since it was planned"):
        finish(AtTheLastMoment(lake.uri), task, DAY, "r1")
    assert label_run(lake, task, shelf, settings, run="r2")[0].rows["read"] == 1
    assert lake.scan("labels", task.name).collect()["id"].to_list() == ["bob"]


def test_an_answer_that_is_about_to_be_kept_is_not(landing: Landing) -> None:
    landing.ingest()
    lake = AtTheLastMoment(landing.lake.uri)
    done = run_annotate(lake, RuleAnnotator(lambda text: "positive"), task=landing.task)
    assert done.rows == {"read": 2, "labelled": 1, "unparsed": 0, "failed": 0, "forgotten": 1, "reused": 0}
    assert [row["id"] for row in annotations(lake)] == ["bob"]


@pytest.mark.parametrize("step", ["export", "import"])
def test_a_question_or_an_answer_about_it_is_not_kept(landing: Landing, tmp_path: Path, step: str) -> None:
    landing.ingest()
    panel, texts = Panel(landing.lake, tmp_path, landing.task), {GONE: "a secret", "bob": "no secret"}
    rows = [{"id": key, "text_hash": hash_text(text), "label": "positive"} for key, text in texts.items()]
    panel.append("labels", rows, DAY)
    if step == "import":
        panel.export("first", strata=[Stratum.RANDOM])
        filled = panel.write(panel.answers({"a secret": "positive", "no secret": "negative"}, "ada", "first"))
    panel.lake = AtTheLastMoment(landing.lake.uri)
    with pytest.raises(TransientError, match="1 documents were forgotten since this step began"):
        panel.imports(filled) if step == "import" else panel.export("first", strata=[Stratum.RANDOM])
    assert panel.export("second", strata=[Stratum.RANDOM]).rows["read"] == 1
    assert set(landing.lake.scan("reviews", panel.task.name).collect()["id"]) == {"bob"}


@pytest.mark.parametrize("call", [1, 2])
def test_it_is_not_asked_about_any_more_and_its_answer_is_not_kept(landing: Landing, call: int) -> None:
    landing.drop("a.jsonl", jsonl(*({"id": f"id {number}", "text": f"text {number}"} for number in range(12))))
    landing.ingest()

    def forget_all(number: int) -> None:
        if number == call:
            forget(landing.task, [f"id {number}" for number in range(12)], run="f1", lake=landing.lake)

    annotator = RuleAnnotator(even, before=forget_all)
    done = run_annotate(landing.lake, annotator, task=landing.task)
    assert done.rows == {"read": 12, "labelled": 0, "unparsed": 0, "failed": 0, "forgotten": 12, "reused": 0}
    assert len(annotator.asked) == 4 * call
    assert annotations(landing.lake) == []


def test_shards_that_were_staged_before_do_not_bring_it_back_when_its_day_is_ingested_again(
    landing: Landing, tmp_path: Path
) -> None:
    lake, task, shelf = landing.lake, landing.task, Shelf(landing.task, 1)
    settings = Settings(lake=lake.uri, state=tmp_path / "state")
    landing.ingest()
    label_run(lake, task, shelf, settings)
    forget(task, [GONE], run="f1", lake=lake)
    landing.ingest(run="r2")  # of the same files: the day's content has the name again that it had before
    done, _ = label_run(lake, task, shelf, settings, run="r2")
    assert (done.step, done.rows["read"]) == ("publish", 1)
    assert lake.scan("labels", task.name).collect()["id"].to_list() == ["bob"]


def test_after_a_restore_it_is_forgotten_again_with_what_was_staged_meanwhile(landing: Landing, tmp_path: Path) -> None:
    lake, task, shelf = landing.lake, landing.task, Shelf(landing.task, 1)
    settings = Settings(lake=lake.uri, state=tmp_path / "state")
    landing.ingest()
    version = lake.version("documents")
    forget(task, [GONE], run="f1", lake=lake)
    lake.restore("documents", version)
    with pytest.raises(DataError, match="forgotten"):
        label_run(lake, task, shelf, settings)
    forget(task, [GONE], run="f2", lake=lake)
    landing.ingest(run="r2")
    assert label_run(lake, task, shelf, settings, run="r2")[0].rows["read"] == 1
