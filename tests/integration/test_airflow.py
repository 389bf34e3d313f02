"""The loop on a real Airflow, S3 and MLflow: nights of one labelling task, driven through the REST API alone.

Every step is a process that costs seconds, so one scenario runs once, in phases, and the tests look at what each left.
"""

from collections import Counter

import polars as pl
import pytest

from laptop.demo.data import Review
from llambert_etl.errors import ConfigError
from llambert_etl.partition import Partition
from llambert_etl.schemas import TableName
from tests.airflow.loop import (
    FIRST,
    FOURTH,
    HISTORY,
    NEW_TEXTS,
    PER_DAY,
    SAMPLE,
    SECOND,
    TASK,
    THIRD,
    Loop,
    Moment,
    same,
)

pytestmark = pytest.mark.timeout(600)


def test_the_schedule_takes_the_day_that_has_ended_and_a_backfill_the_days_before(history: Moment) -> None:
    runs = [(run.partition, run.kind, run.state) for run in history.runs_of("ingest") if run.partition]
    backfilled = [(day, "backfill", "success") for day in (FIRST, SECOND)]
    assert sorted(runs) == [*backfilled, (THIRD, "scheduled", "success")]


def test_every_day_holds_the_documents_of_its_drop(history: Moment, corpus: list[Review]) -> None:
    for number, day in enumerate(HISTORY):
        dropped = corpus[number * PER_DAY : (number + 1) * PER_DAY]
        assert sorted(history.accepted(day)["id"]) == sorted(review.id for review in dropped)


def test_every_poisoned_row_is_kept_with_its_reason(loop: Loop, history: Moment) -> None:
    documents = history.tables["documents"]
    refused = documents.filter(pl.col("status") == "rejected")
    assert set(refused["partition"]) == {THIRD}
    assert set(refused["text"]) == {None}
    commit = loop.lake.last_commit("documents", TASK, THIRD)
    assert commit
    assert commit.manifest
    rows = commit.manifest.rows
    assert rows["accepted"] == PER_DAY
    assert rows["read"] == rows["accepted"] + rows["rejected"] == documents.filter(pl.col("partition") == THIRD).height
    assert dict(refused["reason"].value_counts().iter_rows()) == commit.manifest.reasons
    assert len(commit.manifest.reasons) >= 12


def test_a_label_run_before_there_is_a_champion_skips(loop: Loop, history: Moment) -> None:
    assert history.champion is None
    assert history.tables["labels"].is_empty()
    for day in HISTORY:
        (run,) = history.runs_of("label", day)
        assert (run.kind, run.state) == ("asset_triggered", "success")
        states = {name: step.state for name, step in loop.steps(run).items()}
        assert (states["plan"], states["publish"]) == ("success", "skipped")


@pytest.mark.parametrize(("kind", "first"), [("ingest", "ingest"), ("label", "plan")])
def test_a_run_without_a_partition_key_fails_at_its_first_step_with_one_line(
    loop: Loop, history: Moment, kind: str, first: str
) -> None:
    run = history.named[f"{kind}_without_key"]
    step = loop.steps(run)[first]
    assert (step.state, step.tries) == ("failed", 1)
    assert any("no partition: this run has no partition key" in line for line in loop.log(run, step))


def test_a_partition_key_that_is_no_day_is_refused(loop: Loop, history: Moment) -> None:
    with pytest.raises(ConfigError, match="400"):
        loop.trigger("label", Partition("yesterday"))


def test_one_forced_retrain_is_started_by_an_asset_and_crowns_its_version(loop: Loop, crowned: Moment) -> None:
    (run,) = crowned.runs_of("retrain")
    assert (run.kind, run.state, run.partition) == ("asset_triggered", "success", THIRD)
    assert crowned.champion
    assert (crowned.champion.version, crowned.champion.partition) == (1, THIRD)
    assert [version.version for version in loop.registry.versions(TASK)][-1:] == [1]
    (promotion,) = crowned.tables["promotions"].iter_rows(named=True)
    assert (promotion["to_version"], promotion["moved_by"], promotion["run"]) == (1, "promote", run.run_id)


def test_the_llm_is_asked_about_each_text_of_the_sample_once(crowned: Moment) -> None:
    annotations = crowned.tables["annotations"]
    (run,) = crowned.runs_of("retrain")
    assert annotations.height == annotations["text_hash"].n_unique() == SAMPLE
    assert set(annotations["run"]) == {run.run_id}
    assert set(annotations["text_hash"]) <= set(crowned.accepted()["text_hash"])


def test_the_first_champion_brings_every_day_back_and_each_document_has_one_label(crowned: Moment) -> None:
    for day in HISTORY:
        labels, documents = crowned.labels(day), crowned.accepted(day).sort("id")
        assert labels.select("id", "text_hash").equals(documents.select("id", "text_hash"))
    labels = crowned.tables["labels"]
    assert set(labels["model_version"]) == {1}
    assert labels["label"].n_unique() == 2


def test_every_label_names_a_run_that_airflow_lists_as_started_by_an_asset(crowned: Moment) -> None:
    kinds = {run.run_id: run.kind for run in crowned.runs_of("label")}
    named = set(crowned.tables["labels"]["run"])
    assert len(named) == len(HISTORY)
    assert {kinds[run] for run in named} == {"asset_triggered"}


def test_a_day_is_labelled_in_one_commit(loop: Loop, crowned: Moment, second_night: Moment) -> None:
    # The days have been asked for twice by now.
    inferred = [[manifest.rows["inferred"] for manifest in loop.published(day)][-1:] for day in HISTORY]
    assert inferred == [[PER_DAY]] * 3
    assert crowned.versions["labels"] == 3


def test_ingesting_a_day_again_leaves_its_commit_alone(history: Moment, crowned: Moment) -> None:
    assert crowned.versions["documents"] == history.versions["documents"] == 3
    assert same(crowned, history, "documents")


def test_the_second_night_infers_its_new_texts_only(loop: Loop, second_night: Moment) -> None:
    assert second_night.accepted(FOURTH).height == NEW_TEXTS + 1
    (manifest,) = loop.published(FOURTH)
    assert manifest.rows == {"read": NEW_TEXTS + 1, "inferred": NEW_TEXTS, "reused": 1}
    assert second_night.named["night"].kind == "manual"


def test_the_second_night_asks_the_llm_nothing_and_trains_nothing(crowned: Moment, second_night: Moment) -> None:
    assert same(second_night, crowned, "annotations")
    assert second_night.versions["annotations"] == crowned.versions["annotations"]
    assert len(second_night.runs_of("retrain")) == 1


def test_a_backfill_of_days_that_are_done_changes_nothing(crowned: Moment, second_night: Moment) -> None:
    runs = second_night.runs_of("ingest")
    assert Counter(run.partition for run in runs if run.kind == "backfill") == {FIRST: 2, SECOND: 2, THIRD: 1}
    for day in HISTORY:
        assert second_night.labels(day).equals(crowned.labels(day))
        assert len(second_night.runs_of("label", day)) == len(crowned.runs_of("label", day)) + 1
    # One commit more in each: the new day's.
    tables: tuple[TableName, ...] = ("documents", "labels")
    for table in tables:
        assert second_night.versions[table] == crowned.versions[table] + 1


def test_a_gate_on_labels_that_fails_stops_at_its_first_try_and_the_old_labels_stay(
    loop: Loop, second_night: Moment, refused: Moment
) -> None:
    run = refused.named["label"]
    steps = loop.steps(run)
    assert (steps["check_labels"].state, steps["check_labels"].tries) == ("failed", 1)
    assert steps["publish"].state == "upstream_failed"
    assert any("expected >= 0.05" in line for line in loop.log(run, steps["check_labels"]))
    assert refused.labels(FIRST).equals(second_night.labels(FIRST))
    assert refused.versions["labels"] == second_night.versions["labels"]


def test_a_drop_of_refused_rows_only_stops_before_labelling_and_the_old_labels_stay(
    loop: Loop, second_night: Moment, refused: Moment
) -> None:
    step = loop.steps(refused.named["ingest"])["check_documents"]
    assert (step.state, step.tries) == ("failed", 1)
    assert refused.accepted(FOURTH).is_empty()
    assert refused.labels(FOURTH).equals(second_night.labels(FOURTH))
    assert len(refused.runs_of("label", FOURTH)) == 1
