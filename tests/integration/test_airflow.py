"""The loop on a real Airflow, S3 and MLflow: nights of one labelling task, driven through the REST API alone.

Every step is a process that costs seconds, so one scenario runs once, in phases, and the tests look at what each left.
"""

from collections import Counter
from collections.abc import Iterator

import polars as pl
import pytest

from llambert_etl.config import find_task
from llambert_etl.demo.data import DAYS, Review, drop_files, read_corpus
from llambert_etl.errors import ConfigError
from llambert_etl.partition import Partition
from llambert_etl.schemas import TableName
from llambert_etl.stack import Stack
from llambert_etl.stack.airflow import Airflow
from llambert_etl.stack.airflow_client import Run
from llambert_etl.stack.stack import REPOSITORY
from tests.airflow_loop import (
    FIRST,
    FOURTH,
    GOLD,
    HISTORY,
    KINDS,
    NEW_TEXTS,
    PER_DAY,
    SAMPLE,
    SECOND,
    TASK,
    THIRD,
    Loop,
    Moment,
    gold_of,
    lines_of,
    of,
    same,
)

pytestmark = pytest.mark.timeout(600)

# The phases. Each fixture goes on where the one before has ended, and returns what it left behind.


@pytest.fixture(scope="module")
def corpus() -> list[Review]:
    """Reviews with a text of their own each, in a seeded order."""
    return list({review.text.strip(): review for review in read_corpus(REPOSITORY / ".models")}.values())


@pytest.fixture(scope="module")
def loop(stack: Stack, airflow: Airflow, corpus: list[Review]) -> Iterator[Loop]:
    with airflow.client() as client:
        loop = Loop(stack, client)
        loop.lake.create_tables()
        include = loop.settings.include
        template = "{% for example in examples -%}\nReview: {{ example.text }}\nSentiment: {{ example.label }}\n\n"
        (include / "prompts/reviews.j2").write_text(template + "{% endfor -%}\nReview: {{ text }}\nSentiment:\n")
        gold_of(corpus[-GOLD:]).write_parquet(include / f"gold/{TASK}.parquet")
        loop.write_task()
        yield loop
        for kind in KINDS:
            client.pause(f"{TASK}__{kind}")


@pytest.fixture(scope="module")
def history(loop: Loop, corpus: list[Review]) -> Moment:
    """A backfill loads two days and the schedule the third, with training held back: nothing is labelled yet."""
    for number, day in enumerate((FIRST, SECOND)):
        loop.drop(day, lines_of(corpus[number * PER_DAY : (number + 1) * PER_DAY]))
    third = corpus[2 * PER_DAY : 3 * PER_DAY]
    for name, lines in drop_files(find_task(loop.settings.include, TASK), DAYS[-1], third).items():
        loop.drop(THIRD, lines, name)

    dags = {f"{TASK}__{kind}" for kind in KINDS}
    loop.client.wait_for("the Dags", lambda: dags <= loop.client.dags(), deadline=90)
    assert loop.client.import_errors() == {}
    for kind in ("label", "ingest"):
        loop.client.unpause(f"{TASK}__{kind}")
    loop.client.backfill(f"{TASK}__ingest", FIRST, SECOND)
    keyless = {f"{kind}_without_key": loop.trigger(kind, None) for kind in ("ingest", "label")}
    loop.red |= {run.run_id for run in keyless.values()}
    runs = loop.until(
        "three days of documents",
        lambda runs: all(of(runs, kind, day) for kind in ("ingest", "label") for day in HISTORY),
    )
    return loop.moment(runs, **keyless)


@pytest.fixture(scope="module")
def crowned(loop: Loop, history: Moment) -> Moment:
    """Ingest of the third day is asked to train: one retrain, its champion, and every day labelled."""
    loop.client.unpause(f"{TASK}__retrain")
    forced = loop.trigger("ingest", THIRD, force_retrain=True)
    runs = loop.until(
        "a champion, and the labels of three days",
        lambda runs: loop.registry.champion(TASK) is not None and all(loop.published(day) for day in HISTORY),
        deadline=550,
    )
    return loop.moment(runs, forced=forced)


@pytest.fixture(scope="module")
def second_night(loop: Loop, crowned: Moment, corpus: list[Review]) -> Moment:
    """A new day arrives, with one text that is known already, while all days before are asked for again."""
    first = corpus[0]
    fresh = corpus[3 * PER_DAY : 3 * PER_DAY + NEW_TEXTS]
    loop.drop(FOURTH, lines_of([*fresh, first._replace(id="again")]))
    night = loop.trigger("ingest", FOURTH)
    loop.client.backfill(f"{TASK}__ingest", FIRST, THIRD, reprocess="completed")

    def reached(runs: list[Run]) -> bool:
        again = all(len(of(runs, "label", day)) > len(crowned.runs_of("label", day)) for day in HISTORY)
        return again and bool(loop.published(FOURTH))

    return loop.moment(loop.until("the second night", reached), night=night)


@pytest.fixture(scope="module")
def refused(loop: Loop, second_night: Moment) -> Moment:
    """The alias is moved by hand, but the gate on labels is made too strict; a day's drop is replaced by rubbish."""
    champion = second_night.champion
    assert champion
    copy = loop.registry.register(
        TASK,
        FIRST,
        run_key="by-hand",
        folder=loop.registry.download(champion),
        labels=champion.labels,
        params={},
        metrics=champion.metrics,
        config_hash=champion.config_hash,
    )
    loop.registry.set_champion(TASK, copy.version)
    loop.write_task(min_label_share=0.5)
    loop.drop(FOURTH, [b"not json"] * 5)
    red = {"label": loop.trigger("label", FIRST), "ingest": loop.trigger("ingest", FOURTH)}
    loop.red |= {run.run_id for run in red.values()}
    return loop.moment(loop.until("two refusals", lambda runs: True), **red)


@pytest.fixture(scope="module")
def mended(loop: Loop, refused: Moment) -> Moment:
    """The gate is put back, the day is labelled again, and a retrain with parameters sees the moved alias."""
    loop.write_task()
    label = loop.trigger("label", FIRST)
    retrain = loop.trigger("retrain", THIRD, sample=SAMPLE, strategy="llm")
    return loop.moment(loop.until("labels of the moved alias", lambda runs: True), label=label, retrain=retrain)


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
    assert any("expected >= 0.5" in line for line in loop.log(run, steps["check_labels"]))
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


def test_an_alias_moved_by_hand_labels_the_next_run_and_is_entered_by_the_next_promotion(
    refused: Moment, mended: Moment
) -> None:
    assert refused.tables["promotions"].height == 1
    assert set(mended.labels(FIRST)["model_version"]) == {2}
    assert set(mended.labels(FIRST)["run"]) == {mended.named["label"].run_id}
    last = mended.tables["promotions"].sort("number").row(-1, named=True)
    assert (last["from_version"], last["to_version"], last["moved_by"]) == (1, 2, "by hand")
    assert mended.champion
    assert mended.champion.version == 2


def test_parameters_of_a_trigger_reach_the_steps(loop: Loop, mended: Moment) -> None:
    run = mended.named["retrain"]
    steps = loop.steps(run)
    for name, options in (("annotate", f"--sample={SAMPLE}"), ("train", f"--strategy=llm --sample={SAMPLE}")):
        assert any(line.endswith(options) for line in loop.log(run, steps[name]) if "Starting: llambert" in line)


def test_a_second_retrain_on_the_same_day_adds_neither_annotation_nor_gold_nor_version(
    loop: Loop, second_night: Moment, mended: Moment
) -> None:
    tables: tuple[TableName, ...] = ("annotations", "gold")
    for table in tables:
        assert same(mended, second_night, table)
        assert mended.versions[table] == second_night.versions[table]
    assert [version.version for version in loop.registry.versions(TASK)] == [2, 1]
