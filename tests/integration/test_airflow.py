"""The loop on a real Airflow, S3 and MLflow: nights of one labelling task, driven through the REST API alone.

Every step is a process that costs seconds, so one scenario runs once, in phases, and the tests look at what each left.
"""

import datetime
import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import polars as pl
import pytest
import yaml

from llambert_etl.config import find_task
from llambert_etl.demo.data import DAYS, Review, drop_files, read_corpus
from llambert_etl.errors import ConfigError, TransientError
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.registry import ModelVersion, Registry
from llambert_etl.schemas import TABLES, TableName
from llambert_etl.stack import Stack
from llambert_etl.stack.airflow import Airflow
from llambert_etl.stack.airflow_client import AirflowClient, Run, TaskInstance
from llambert_etl.stack.environment import ANNOTATOR, ENCODER, LANDING
from llambert_etl.stack.stack import REPOSITORY
from tests.tasks import task_fields

pytestmark = pytest.mark.timeout(600)

TASK = "reviews"
KINDS = ("label", "retrain", "ingest")  # consumers first: a paused one loses events
# Odd, so that two labels can never have half of a day each; and enough for the gates to look at shares.
PER_DAY = 111
NEW_TEXTS = 40
SAMPLE = 120
GOLD = 150

_TODAY = datetime.datetime.now(datetime.UTC).date()
# The last of the three is the day that has ended, and the fourth comes a night later.
FIRST, SECOND, THIRD, FOURTH = (
    Partition((_TODAY + datetime.timedelta(days=offset)).isoformat()) for offset in (-3, -2, -1, 0)
)
HISTORY = (FIRST, SECOND, THIRD)


class Moment(NamedTuple):
    """What Airflow, the lake and the registry held when a phase had ended."""

    runs: list[Run]
    tables: dict[TableName, pl.DataFrame]
    versions: dict[TableName, int]
    champion: ModelVersion | None
    named: dict[str, Run]  # the runs of this phase that a test asks about

    def runs_of(self, kind: str, day: Partition | None = None) -> list[Run]:
        return [run for run in self.runs if run.dag == f"{TASK}__{kind}" and day in (None, run.partition)]

    def accepted(self, *days: Partition) -> pl.DataFrame:
        documents = self.tables["documents"].filter(pl.col("status") == "accepted")
        return documents.filter(pl.col("partition").is_in(days)) if days else documents

    def labels(self, day: Partition) -> pl.DataFrame:
        return self.tables["labels"].filter(pl.col("partition") == day).sort("id")


class Loop:
    """The deployment, and how the scenario moves it. `red` are the runs that are meant to fail."""

    def __init__(self, stack: Stack, client: AirflowClient) -> None:
        self.stack, self.client = stack, client
        self.settings = stack.settings
        self.lake, self.registry = Lake.from_settings(stack.settings), Registry.from_settings(stack.settings)
        self.red: set[str] = set()

    # What arrives

    def drop(self, day: Partition, lines: Sequence[bytes], name: str = "reviews.jsonl.gz") -> None:
        body = gzip.compress(b"\n".join(lines), mtime=0)
        self.stack.s3.client().put_object(Bucket=LANDING, Key=f"{TASK}/{day}/{name}", Body=body)

    def write_task(self, **gates: float) -> None:
        """Write the task file whole: the Dag processor and the steps read it at any moment."""
        file = self.settings.include / "tasks" / f"{TASK}.yaml"
        part = file.with_suffix(".part")
        part.write_text(yaml.safe_dump(reviews_task(gates), sort_keys=False))
        part.replace(file)

    # What Airflow is told

    def trigger(self, kind: str, day: Partition | None, **conf: object) -> Run:
        return self.client.trigger(f"{TASK}__{kind}", day, conf)

    def until(self, what: str, reached: Callable[[list[Run]], bool], deadline: float = 550.0) -> list[Run]:
        """Wait until no run is under way and `reached` holds; fail with the log where a run fails that should not."""

        def ask() -> list[Run] | None:
            runs = self.runs()
            for run in runs:
                if run.state == "failed" and run.run_id not in self.red:
                    pytest.fail(f"{what}: {run.dag} {run.partition} failed\n{self.why(run)}", pytrace=False)
            return runs if all(run.state in ("success", "failed") for run in runs) and reached(runs) else None

        try:
            return self.client.wait_for(what, ask, deadline=deadline)
        except TransientError as error:
            seen = "\n".join(f"{run.dag} {run.partition} {run.kind} {run.state}" for run in self.runs())
            pytest.fail(f"{error}; runs:\n{seen}", pytrace=False)

    def runs(self) -> list[Run]:
        return [run for kind in KINDS for run in self.client.runs(f"{TASK}__{kind}")]

    # What it did

    def steps(self, run: Run) -> dict[str, TaskInstance]:
        """Return the run's tasks by name; of a mapped one, the last shard."""
        return {found.task: found for found in self.client.task_instances(run.dag, quote(run.run_id, safe=""))}

    def log(self, run: Run, step: TaskInstance) -> list[str]:
        number = max(step.tries, 1)
        run_id = quote(run.run_id, safe="")
        return self.client.log(run.dag, run_id, step.task, number=number, map_index=step.map_index).splitlines()

    def why(self, run: Run) -> str:
        failed = [step for step in self.steps(run).values() if step.state == "failed"]
        return "\n".join(line for step in failed for line in [f"-- {step}", *self.log(run, step)[-25:]])

    def published(self, day: Partition) -> list[Manifest]:
        """Return the manifest of each commit of a day's labels, newest first."""
        manifests = [commit.manifest for commit in self.lake.commits("labels", TASK) if commit.manifest]
        return [manifest for manifest in manifests if manifest.partition == day]

    def moment(self, runs: list[Run], **named: Run) -> Moment:
        return Moment(
            runs,
            {table: self.lake.scan(table, TASK).collect() for table in TABLES},
            {table: self.lake.version(table) for table in TABLES},
            self.registry.champion(TASK),
            named,
        )


def reviews_task(gates: dict[str, float]) -> dict[str, Any]:
    fields = task_fields(TASK)
    # A day on which no drop of this scenario falls: nothing here is trained because it is Sunday.
    weekday = (_TODAY + datetime.timedelta(days=2)).strftime("%A").lower()
    return {
        **fields,
        "prompt": {
            "template": "reviews.j2",
            "examples": [
                {"text": "An instant classic: warm, funny and beautifully acted.", "label": "positive"},
                {"text": "Two hours I will not get back; dull and clumsy.", "label": "negative"},
                {"text": "A gripping, tender film that stays with you.", "label": "positive"},
                {"text": "A lazy sequel without a single laugh or idea.", "label": "negative"},
            ],
        },
        "annotator": {**fields["annotator"], "model": ANNOTATOR, "sample": SAMPLE},
        "encoder": {
            **fields["encoder"],
            "model": ENCODER,
            # A hundred labels are few: smaller steps, or fewer, leave an encoder that gives one label to every text.
            "epochs": 6,
            "patience": 6,
            "learning_rate": 3e-4,
            "batch_size": 8,
            "class_weights": True,
            "max_length": 48,
        },
        "gold": f"gold/{TASK}.parquet",
        "gates": {**fields["gates"], "min_gold_f1": 0.4, **gates},
        "retrain": {"weekday": weekday},
    }


def lines_of(reviews: Sequence[Review]) -> list[bytes]:
    return [json.dumps({"id": review.id, "text": review.text}).encode() for review in reviews]


def gold_of(reviews: Sequence[Review]) -> pl.DataFrame:
    judged = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    splits = ["train" if number % 3 == 0 else "test" for number in range(len(reviews))]
    rows = [
        {**review._asdict(), "split": split, "annotator": "people", "labelled_at": judged}
        for review, split in zip(reviews, splits, strict=True)
    ]
    return pl.DataFrame(rows)


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


def of(runs: Sequence[Run], kind: str, day: Partition) -> list[Run]:
    return [run for run in runs if (run.dag, run.partition) == (f"{TASK}__{kind}", day)]


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
    last = mended.tables["promotions"].sort("moved_at").row(-1, named=True)
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


def same(left: Moment, right: Moment, table: TableName) -> bool:
    """Compare the rows of a table, whatever their order."""
    keys = [*TABLES[table].key, "partition", "run"] if table != "documents" else ["partition", "source", "place"]
    return left.tables[table].sort(keys).equals(right.tables[table].sort(keys))
