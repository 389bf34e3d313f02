"""What a step says that it has read is what it has read, though others write while it works."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llambert_etl.corpus.documents import hash_text
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.registry import ModelVersion
from llambert_etl.reviews.reviewed import Stratum
from llambert_etl.run import Run
from llambert_etl.schemas import TABLES, TableName
from llambert_etl.settings import Settings
from llambert_etl.steps.check import check_annotations, check_documents, check_staged
from llambert_etl.steps.gold import import_gold
from llambert_etl.steps.train import train
from tests.given.annotating import RuleAnnotator, even, run_annotate
from tests.given.busy import Busy, Write
from tests.given.labelling import Shelf
from tests.given.reviews import Panel
from tests.given.tasks import make_task
from tests.unit.quality import frames

DAY, BEFORE = Partition(frames.DAY), Partition("2026-11-09")
TASK = make_task(annotator={"sample": 1000}, gates={"min_label_share": 0.2})
FEW, MANY = 200, 260


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path / "lake"))
    lake.create_tables()
    put(lake, FEW)
    for split, numbers in (("train", range(12)), ("test", range(12, 24))):
        frames.put(lake, "gold", frames.gold(TASK, numbers, split), TASK)
    return lake


def put(lake: Lake, n: int) -> None:
    frames.put(lake, "documents", frames.documents(TASK, n), TASK)
    frames.put(lake, "annotations", frames.annotations(TASK, n), TASK)


def more(lake: Lake) -> None:
    put(lake, MANY)
    frames.put(lake, "gold", frames.gold(TASK, range(24, 40), "test"), TASK)


def told(lake: Lake, step: Callable[[Lake], Manifest], *, at: TableName = "documents", write: Write = more) -> Manifest:
    """Return the manifest of a step between whose opening and reading somebody has written."""
    before = {table: lake.version(table) for table in TABLES}
    made = step(Busy(lake.uri, at, write))
    assert made.versions_read == {table: before[table] for table in made.versions_read}
    return made


def test_a_gate_profiles_the_documents_that_it_names(lake: Lake) -> None:
    made = told(lake, lambda busy: check_documents(Run(TASK, DAY, "r"), lake=busy))
    assert (made.rows["accepted"], list(made.versions_read)) == (FEW, ["documents"])


def test_a_gate_profiles_the_answers_that_it_names(lake: Lake) -> None:
    made = told(lake, lambda busy: check_annotations(Run(TASK, DAY, "r"), lake=busy, prompt_hash="p"))
    assert (made.rows["labelled"], made.rows["not_asked"]) == (FEW, 0)
    assert list(made.versions_read) == ["documents", "annotations", "gold"]


@pytest.mark.parametrize("at", ["labels", "gold"])
def test_a_gate_compares_labels_with_what_it_names(lake: Lake, at: TableName) -> None:
    """Documents are those of the plan, whoever has ingested since."""
    planned = lake.version("documents")

    def publish(other: Lake) -> None:
        frames.put(other, "labels", frames.labels(TASK), TASK, BEFORE)
        put(other, MANY)

    staged = frames.frame("labels", frames.labels(TASK, FEW))
    options: dict[str, Any] = {"staged": staged, "documents_version": planned, "prompt_hash": "p"}
    made = told(lake, lambda busy: check_staged(Run(TASK, DAY, "r"), lake=busy, **options), at=at, write=publish)
    reference: Any = made.facts["profile"]["reference"]  # type: ignore[index, call-overload]
    assert (reference["source"], sum(reference["counts"].values())) == ("the LLM's labels", FEW)
    assert set(made.versions_read) == {"documents", "annotations", "labels", "gold"}


def test_a_sample_is_drawn_from_the_documents_that_it_names(lake: Lake) -> None:
    made = told(lake, lambda busy: run_annotate(busy, RuleAnnotator(even, batch_size=100), task=TASK))
    assert (made.rows["read"], list(made.versions_read)) == (FEW, ["documents"])


def test_a_candidate_learns_from_the_tables_that_it_names(lake: Lake, tmp_path: Path) -> None:
    class Trained(Shelf):
        """A registry that has what is to be trained already."""

        def find(self, task: str, run_key: str) -> ModelVersion:
            shares = {f"gold.predicted_share.{label}": 0.5 for label in TASK.labels}
            return self.version(task, 1).model_copy(update={"metrics": shares})

        def run_page(self, version: ModelVersion) -> str:
            return ""

    options: dict[str, Any] = {"registry": Trained(TASK, 1), "settings": Settings(lake=lake.uri, state=tmp_path)}
    made = told(lake, lambda busy: train(Run(TASK, DAY, "r"), lake=busy, prompt_hash="p", strategy="llm", **options))
    assert (made.rows["read"], made.facts["gold_test"]) == (FEW, 12)
    assert list(made.versions_read) == ["documents", "annotations", "gold"]


def test_gold_has_the_texts_of_the_documents_that_it_names(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "gold.csv").write_text(
        "id,label\n" + "".join(f"d{number},{TASK.label_names[number % 2]}\n" for number in range(20))
    )

    def edit(other: Lake) -> None:
        edited = [{**row, "text": "other", "text_hash": hash_text("other")} for row in frames.documents(TASK, FEW)[:-1]]
        frames.put(other, "documents", edited, TASK)

    settings, day = Settings(lake=lake.uri, state=tmp_path), Partition("2026-11-12")
    file = tmp_path / "gold.csv"
    told(lake, lambda busy: import_gold(Run(TASK, day, "r"), file, lake=busy, settings=settings), write=edit)
    assert set(lake.scan("gold", TASK.name, day).collect()["text"]) == {f"text {number}" for number in range(20)}


def test_people_are_asked_about_the_documents_that_a_review_names(lake: Lake, tmp_path: Path) -> None:
    panel = Panel(lake, tmp_path, make_task(name="asked"))
    panel.documents(dict.fromkeys(["a", "b", "c"], "positive"))

    def label_more(other: Lake) -> None:
        Panel(other, tmp_path, panel.task).documents(dict.fromkeys(["d", "e"], "positive"), Partition("2026-11-09"))

    def export(busy: Lake) -> Manifest:
        return Panel(busy, tmp_path, panel.task).export(strata=[Stratum.RANDOM])

    made = told(lake, export, write=label_more)
    assert made.rows["read"] == 3
    assert set(made.versions_read) == {"documents", "annotations", "gold", "labels", "reviews"}
