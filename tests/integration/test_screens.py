"""What people are shown of a task and of one label: status and explain, on a real lake."""

import datetime
import sys
from collections.abc import Callable
from dataclasses import replace

import polars as pl
import pyarrow as pa
import pytest

from llambert_etl.cli import screens
from llambert_etl.config import LabellingTask
from llambert_etl.config.exports import Parquet
from llambert_etl.corpus.documents import hash_text
from llambert_etl.errors import DataError
from llambert_etl.facts import Agreed
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.schemas import TABLES, TableName
from llambert_etl.settings import Settings
from llambert_etl.steps.doctor import Finding
from llambert_etl.steps.explain import explain
from llambert_etl.steps.export import export
from llambert_etl.steps.status import status
from tests.given.labelling import DAY, NEXT, Shelf, drop, label_run
from tests.given.tasks import three_label_task

TEXT = "text 1"
# What a reader could take for markup of the terminal is shown as it is.
REPLY = "[bold]business[/bold]"


@pytest.fixture
def task() -> LabellingTask:
    return three_label_task()


@pytest.fixture
def shelf(task: LabellingTask) -> Shelf:
    return Shelf(task, 3)


@pytest.fixture
def labelled(lake: Lake, task: LabellingTask, shelf: Shelf, settings: Settings) -> Lake:
    """Two days of documents, the first labelled by version 3; one text was shown to the LLM and to a person."""
    drop(lake, task, [f"text {number}" for number in range(3)], refused=1)
    drop(lake, task, ["text 9"], NEXT, key="next")
    common = {"task": task.name, "partition": DAY, "id": "elsewhere", "text_hash": hash_text(TEXT), "run": "r1"}
    said = {"status": "labelled", "label": "business", "reply": REPLY, "model": "m/l", "revision": "0" * 40}
    append(lake, task, "annotations", {**common, **said, "prompt_hash": "p" * 16, "parser_version": "1", "tokens": 9})
    append(lake, task, "gold", {**common, "text": TEXT, "label": "sports", "split": "train", "annotator": "ada"})
    at = datetime.datetime(2026, 11, 11, tzinfo=datetime.UTC)
    moved = {
        "moved_at": at,
        "number": 1,
        "to_version": 3,
        "moved_by": "promote",
        "reason": "the first champion",
        "evidence": "{}",
    }
    append(lake, task, "promotions", {**common, **moved})
    label_run(lake, task, shelf, settings, run="night")
    return lake


def append(lake: Lake, task: LabellingTask, table: TableName, row: dict[str, object]) -> None:
    names = TABLES[table].schema.names
    rows = pa.Table.from_pylist([{name: row.get(name) for name in names}], schema=TABLES[table].schema)
    manifest = Manifest(step=table, task=task.name, partition=DAY, run="r1")
    lake.append_once(table, task.name, DAY, rows, manifest=manifest)


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return what a screen prints on the real stdout."""

    def show(screen: Callable[..., None], *what: object) -> str:
        monkeypatch.setattr(sys, "__stdout__", sys.stdout)
        screen(*what)
        return capsys.readouterr().out

    return show


def test_a_label_is_traced_to_file_llm_people_model_and_gate(labelled: Lake, task: LabellingTask) -> None:
    origin = explain(task, f"{DAY}-1", lake=labelled)
    assert origin.label
    assert (origin.label["model_version"], origin.label["run"]) == (3, "night")
    assert origin.model
    assert (origin.model.version, origin.model.run_id) == (3, "run3")
    assert [said["reply"] for said in origin.annotations] == [REPLY]
    assert [(row["label"], row["annotator"]) for row in origin.gold] == [("sports", "ada")]
    assert [move["moved_by"] for move in origin.promotions] == ["promote"]
    assert origin.gate
    assert origin.gate.startswith(f"{labelled.uri}/_reports/{task.name}/{DAY}/labels-")


def test_a_document_that_is_not_labelled_yet_is_shown_without_a_label(labelled: Lake, task: LabellingTask) -> None:
    origin = explain(task, f"{NEXT}-0", lake=labelled)
    assert (origin.document["partition"], origin.label, origin.model) == (NEXT, None, None)
    assert (origin.annotations, origin.gold, origin.promotions) == ([], [], [])


@pytest.mark.parametrize(("document", "day"), [("nobody", None), (f"{DAY}-1", NEXT)])
def test_an_id_that_is_not_there_is_refused(labelled: Lake, task: LabellingTask, document: str, day: object) -> None:
    with pytest.raises(
        DataError, match=rf"no document with id '{document}' in (any partition|.*, but in {DAY}); look the id up"
    ):
        explain(task, document, lake=labelled, partition=day)  # type: ignore[arg-type]


def test_the_screen_of_a_label_shows_what_others_said_as_they_said_it(
    labelled: Lake, task: LabellingTask, shown: Callable[..., str]
) -> None:
    origin = explain(task, f"{DAY}-1", lake=labelled)
    seen = " ".join(shown(screens.show_origin, task, origin).split())
    for part in (
        f"it wrote '{REPLY}'",
        "sports (train), ada",
        "llambert.topics version 3",
        "run night",
        "MLflow run run3",
    ):
        assert part in seen


def test_a_label_of_an_earlier_text_is_shown_as_such(
    labelled: Lake, task: LabellingTask, shown: Callable[..., str]
) -> None:
    assert "of another text" not in shown(screens.show_origin, task, explain(task, f"{DAY}-1", lake=labelled))
    drop(labelled, task, ["changed 0", "changed 1"], DAY, key="changed")
    origin = explain(task, f"{DAY}-1", lake=labelled)
    assert origin.label
    assert f"of another text, {origin.label['text_hash']}" in shown(screens.show_origin, task, origin)


ORDERS = "\x1b]0;title\x07\x1b[31m\x9b2J\u202egnp"


def test_no_screen_hands_an_order_to_the_terminal(
    labelled: Lake, task: LabellingTask, shelf: Shelf, shown: Callable[..., str]
) -> None:
    origin = explain(task, f"{DAY}-1", lake=labelled)
    told = {name: ORDERS for name in ("id", "source", "place")}
    hostile = replace(origin, document={**origin.document, **told}, gold=[{**origin.gold[0], "annotator": ORDERS}])
    state = status(task.model_copy(update={"description": ORDERS}), lake=labelled, registry=shelf, today=NEXT)  # type: ignore[arg-type]
    state.recent[0] = state.recent[0].model_copy(update={"run": ORDERS})
    counts = {ORDERS: 1}
    review = Agreed(
        **dict.fromkeys(("asked", "outcomes", "gold", "sides"), counts),
        accuracy={},
        agreement={},
        verdicts={ORDERS: {ORDERS: counts}},
        report=ORDERS,
    )
    manifest = Manifest(step="plan", task=task.name, partition=DAY, run=ORDERS, facts={"skip": ORDERS})
    for screen, what in (
        (screens.show_origin, (task, hostile)),
        (screens.show_status, (state,)),
        (screens.show_review, (review,)),
        (screens.show_manifest, (manifest,)),
        (screens.show_checks, ([Finding("models", False, ORDERS, ORDERS)],)),
    ):
        seen = shown(screen, *what)
        assert "\\u001b" in seen
        assert not set(ORDERS) & set(seen) - set("0123456789;[]titleJmgnp")


def test_the_other_days_of_an_id_are_named(labelled: Lake, task: LabellingTask, shown: Callable[..., str]) -> None:
    """The same id on a later day is a newer revision, and the one that is shown unless a day is asked for."""
    rows = labelled.scan("documents", task.name, NEXT).collect().with_columns(id=pl.lit(f"{DAY}-1"))
    manifest = Manifest(step="ingest", task=task.name, partition=NEXT, run="r2")
    staged = labelled.stage("documents", task.name, NEXT, [rows.to_arrow().cast(TABLES["documents"].schema)], name="d")
    labelled.replace_partition("documents", task.name, NEXT, staged, commit_key="again", manifest=manifest)
    origin = explain(task, f"{DAY}-1", lake=labelled)
    assert (origin.document["partition"], origin.others) == (NEXT, [DAY])
    assert f"1 partition: {DAY}; --partition DAY shows one" in " ".join(
        shown(screens.show_origin, task, origin).split()
    )
    earlier = explain(task, f"{DAY}-1", lake=labelled, partition=DAY)
    assert (earlier.document["partition"], earlier.others) == (DAY, [NEXT])


def test_the_doctors_list_shows_what_was_seen_as_it_is(shown: Callable[..., str]) -> None:
    seen = "labels: must be a mapping (found '[/b]')"
    assert seen in shown(screens.show_checks, [Finding("task files", False, seen, "mend the files named")])


def test_the_screen_of_a_task_counts_everything_and_names_the_days_behind(
    labelled: Lake, task: LabellingTask, shelf: Shelf, shown: Callable[..., str]
) -> None:
    found = status(task, lake=labelled, registry=shelf, today=NEXT)  # type: ignore[arg-type]
    assert found.documents == {"accepted": 4, "rejected": 1}
    assert found.refusals == {"duplicate_id": 1}
    assert (found.annotations, found.gold) == ({"labelled": 1}, {"train": 1})
    assert sum(found.labels.values()) == 3
    assert found.behind == [NEXT]
    did = [manifest.step for manifest in found.recent]
    assert did == ["publish", "promotions", "gold", "annotations", "ingest", "ingest"], "the newest first"
    seen = shown(screens.show_status, found)
    assert "1 partition: 2026-11-11" in seen
    assert "llambert.topics version 3" in seen
    assert "exported" not in seen


def test_the_screen_of_a_task_names_the_days_that_were_never_ingested_and_no_empty_one(
    labelled: Lake, task: LabellingTask, shelf: Shelf, shown: Callable[..., str]
) -> None:
    assert "never ingested" not in shown(screens.show_status, status(task, lake=labelled, registry=shelf, today=NEXT))  # type: ignore[arg-type]
    drop(labelled, task, [], Partition("2026-11-12"), key="empty")
    drop(labelled, task, ["late"], Partition("2026-11-14"), key="late")
    found = status(task, lake=labelled, registry=shelf, today=NEXT)  # type: ignore[arg-type]
    assert found.never_ingested == ["2026-11-13"]
    assert "never ingested 1 partition: 2026-11-13" in " ".join(shown(screens.show_status, found).split())


def test_the_screen_of_a_task_shows_what_people_wrote_as_they_wrote_it(
    labelled: Lake, task: LabellingTask, shelf: Shelf, shown: Callable[..., str]
) -> None:
    asked = task.model_copy(update={"description": f"Is it {REPLY}? [/b] :+1:"})
    found = status(asked, lake=labelled, registry=shelf, today=NEXT)  # type: ignore[arg-type]
    found.recent[0] = found.recent[0].model_copy(update={"run": "[/night]"})
    seen = shown(screens.show_status, found)
    assert f"{task.name}: {asked.description}" in seen
    assert "[/night]" in seen


def test_the_screen_of_a_task_that_exports_shows_what_is_published_and_not_exported(
    labelled: Lake, task: LabellingTask, shelf: Shelf, settings: Settings, shown: Callable[..., str]
) -> None:
    exporting = task.model_copy(update={"export": [Parquet()]})

    def seen() -> str:
        found = status(exporting, lake=labelled, registry=shelf, today=NEXT)  # type: ignore[arg-type]
        return " ".join(shown(screens.show_status, found).split())

    first = labelled.version("labels")
    assert f"last published version {first} of the labels, {DAY} last exported nothing yet" in seen()
    export(Run(exporting, DAY, "night"), lake=labelled, settings=settings)
    label_run(labelled, exporting, shelf, settings, run="next", day=NEXT)
    assert f"last published version {labelled.version('labels')} of the labels, {NEXT}" in seen()
    assert f"last exported version {first} of the labels, {DAY} not exported yet 1 partition: {NEXT}" in seen()
    export(Run(exporting, NEXT, "next"), lake=labelled, settings=settings)
    assert f"of the labels, {NEXT} not exported yet none" in seen()


def test_the_screen_of_a_task_says_that_the_registry_is_down(
    labelled: Lake, task: LabellingTask, shelf: Shelf, shown: Callable[..., str]
) -> None:
    shelf.down = True
    found = status(task, lake=labelled, registry=shelf, today=NEXT)  # type: ignore[arg-type]
    assert found.behind == [DAY, NEXT]
    assert "not known: registry: no answer" in shown(screens.show_status, found)
