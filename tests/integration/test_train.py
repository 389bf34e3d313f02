"""train: which rows each strategy learns from, what it measures, and what a second run does."""

import logging
import os
import signal
from pathlib import Path
from typing import get_args

import pytest
from mlflow import MlflowClient

from llambert_etl.config import LabellingTask, Strategy
from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.lake import Lake
from llambert_etl.registry import Registry
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.steps.train import train
from tests.given.school import ANNOTATED, DAY, School
from tests.given.tasks import make_task, three_label_task
from tests.models.encoders import ARCHITECTURES, LONGEST, pretrained
from tests.processes.forks import Fork
from tests.processes.full_disk import full_disk
from tests.unit.quality import frames

HONESTY = ("ece", "ece_mass", "ece_mass_by_chance", "log_loss", "brier")


@pytest.fixture(params=[make_task, three_label_task], ids=["two labels", "three labels"])
def school(usable: Settings, request: pytest.FixtureRequest) -> School:
    return School(usable, request.param(annotator={"sample": 40, "extra": 20}))


def test_each_strategy_learns_from_its_own_rows_and_never_from_those_that_gold_tests_on(school: School) -> None:
    found = {strategy: school.train(strategy) for strategy in get_args(Strategy)}
    leaked = found["llm"]["leaked_rows_removed"]
    assert {strategy: facts["stages"] for strategy, facts in found.items()} == {
        "gold": [12],
        "llm": [40 - leaked],
        "llm+extra": [ANNOTATED - 12],
        "combined": [ANNOTATED - 12, 12],
    }
    assert [found[strategy]["leaked_rows_removed"] for strategy in ("llm+extra", "combined")] == [12, 12]
    assert {facts["gold_test"] for facts in found.values()} == {12}
    assert len({facts["model_version"] for facts in found.values()}) == 4


@pytest.mark.parametrize(
    ("strategy", "rows"),
    [
        ("gold", {"read": 12, "usable": 12, "leaked": 0}),
        ("llm", {"read": ANNOTATED, "usable": ANNOTATED - 12, "leaked": 12}),
        ("combined", {"read": ANNOTATED + 12, "usable": ANNOTATED, "leaked": 12}),
    ],
)
def test_the_account_counts_the_rows_that_the_strategy_learns_from_and_no_others(
    usable: Settings, strategy: Strategy, rows: dict[str, int]
) -> None:
    school = School(usable, make_task())
    done = school.account(strategy)
    assert done.rows == rows
    assert done.facts["sample"] == (0 if strategy == "gold" else school.task.sample_size(strategy))


def test_a_combined_candidate_also_says_what_it_was_before_it_saw_gold(usable: Settings) -> None:
    school = School(usable, make_task())
    combined, alone = (school.train(strategy)["metrics"] for strategy in ("combined", "llm"))
    assert combined["stage_1.n"] == 12.0
    # The same rows, seed and recipe: the first stage is the encoder that LLM labels alone give.
    assert combined["stage_1.accuracy"] == alone["gold.accuracy"]
    assert combined["stage_1.macro_f1"] == alone["gold.macro_f1"]
    assert not any(name.startswith("stage_") for name in alone)


def test_the_same_rows_give_the_version_that_is_there_already(usable: Settings) -> None:
    school = School(usable, make_task())
    first, again = school.train("llm"), school.train("llm", run="another")
    assert (again["model_version"], again["run_key"]) == (first["model_version"], first["run_key"])
    assert len(school.registry.versions(school.task.name)) == 1


def test_probabilities_are_learnt_from_where_that_is_asked_for(school: School) -> None:
    hard, soft = school.train("combined"), school.train("combined", soft_labels=True)
    assert soft["stages"] == hard["stages"]
    assert soft["run_key"] != hard["run_key"]
    assert soft["metrics"]["stage_1.ece"] != hard["metrics"]["stage_1.ece"]
    assert school.train("combined", soft_labels=False)["run_key"] == hard["run_key"]


def test_a_label_that_is_never_given_is_told_and_a_second_run_says_the_same(
    usable: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    school = School(usable, make_task(encoder={"epochs": 10, "learning_rate": 0.01}))
    labels = ["negative"] * 2 + ["positive"] * (ANNOTATED - 2)
    rows = frames.annotations(school.task, ANNOTATED)[::-1]
    told = [{**row, "prompt_hash": "q", "label": label} for row, label in zip(rows, labels, strict=True)]
    frames.put(school.lake, "annotations", told, school.task)
    caplog.set_level("INFO", "llambert_etl")
    first, again = (school.train("llm", prompt_hash="q") for _ in range(2))
    assert first["labels_never_given"] == again["labels_never_given"] == ["negative"]
    assert first["rarest_label"] == [{"label": "negative", "rows": 2, "of": first["stages"][0]}]
    assert "'negative' is never given, though 6 of 12 rows are" in caplog.text
    assert "'negative', has 2 of 48 rows; encoder.class_weights: true lets rare labels count more" in caplog.text
    version = school.registry.version(school.task.name, first["model_version"])
    run = MlflowClient(usable.mlflow_uri).get_run(version.run_id)
    assert run.data.tags["llambert.labels_never_given"] == "negative"


def test_a_version_says_what_its_calibration_found_and_what_it_was_without(usable: Settings) -> None:
    # What four held-out texts calibrate is too little: nothing is divided.
    metrics = School(usable, make_task()).train("llm")["metrics"]
    assert (metrics["calibration.rows"], metrics["calibration.temperature"]) == (4.0, 1.0)
    assert metrics["uncalibrated.log_loss"] == pytest.approx(metrics["gold.log_loss"])
    assert {f"{part}.{name}" for part in ("gold", "uncalibrated") for name in HONESTY} <= metrics.keys()


def test_a_training_that_finds_no_room_can_be_run_again_and_leaves_no_candidate(usable: Settings) -> None:
    school = School(usable, make_task())
    with full_disk(8192), pytest.raises(TransientError, match="this disk or quota takes no more"):
        school.train("gold")
    assert not [path for path in usable.state.rglob("*.safetensors") if path.is_file()]
    assert school.registry.versions(school.task.name) == []
    assert school.train("gold")["model_version"] == 1


class Death(logging.Handler):
    """Kills its process when training tells of the end of an epoch."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("epoch 2"):
            os.kill(os.getpid(), signal.SIGKILL)


def training_to_death(settings: Settings, task: LabellingTask) -> None:
    """Train until the second epoch is over."""
    logger = logging.getLogger("llambert_etl.encoder.watch")
    logger.setLevel(logging.INFO)
    logger.addHandler(Death())
    training(settings, task)


def training(settings: Settings, task: LabellingTask) -> None:
    """Train as the command does. Runs in a fork."""
    lake, registry = Lake(str(settings.state / "lake")), Registry.from_settings(settings)
    train(Run(task, DAY, "r"), lake=lake, registry=registry, settings=settings, prompt_hash="p", strategy="llm")


@pytest.mark.parametrize(("seconds", "goes_on"), [(0, True), (600, False)], ids=["kept", "too soon to be kept"])
def test_a_training_killed_between_epochs_leaves_no_candidate_and_the_next_one_comes_to_the_same_weights(
    usable: Settings, tmp_path: Path, seconds: float, goes_on: bool, caplog: pytest.LogCaptureFixture
) -> None:
    usable = usable.model_copy(update={"checkpoint_seconds": seconds})
    task = make_task(encoder={"epochs": 3, "patience": 3})
    undisturbed, killed = School(usable, task), School(usable, task)
    with Fork(training_to_death, usable, killed.task, log=tmp_path / "train.log") as fork:
        assert fork.wait() == -signal.SIGKILL, fork.last_words
    left = {path.name for path in (usable.state / "candidates" / killed.task.name).iterdir()}
    assert killed.registry.versions(killed.task.name) == []
    assert bool(killed.lake.storage.list(f"_checkpoints/{killed.task.name}")) is goes_on
    caplog.set_level("INFO", "llambert_etl.encoder")
    found = [school.train("llm") for school in (undisturbed, killed)]
    assert found[1]["run_key"] not in left
    weights = {
        school.registry.version(school.task.name, facts["model_version"]).hashes["model.safetensors"]
        for school, facts in zip((undisturbed, killed), found, strict=True)
    }
    assert len(weights) == 1
    assert ("going on after epoch 1" in caplog.text) is goes_on
    assert not killed.lake.storage.list(f"_checkpoints/{killed.task.name}"), "nothing needs it any more"


class Twin(logging.Handler):
    """Lets another run of a training go through from beginning to end when this one tells of its first epoch."""

    def __init__(self, settings: Settings, task: LabellingTask, log: Path) -> None:
        super().__init__()
        self._training, self._log = (settings, task), log

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger("llambert_etl.encoder.watch").removeHandler(self)
        with Fork(training, *self._training, log=self._log) as fork:
            assert fork.wait() == 0, fork.last_words


def test_of_two_runs_of_one_training_at_once_both_end_with_the_version_of_the_first(
    usable: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    usable = usable.model_copy(update={"checkpoint_seconds": 0})
    school = School(usable, make_task(encoder={"epochs": 3}))
    caplog.set_level("INFO", "llambert_etl.encoder")
    logging.getLogger("llambert_etl.encoder.watch").addHandler(Twin(usable, school.task, tmp_path / "twin.log"))
    assert school.train("llm")["model_version"] == 1
    assert len(school.registry.versions(school.task.name)) == 1


def test_a_smaller_sample_is_trained_on_as_it_was_annotated(usable: Settings) -> None:
    school = School(usable, make_task())
    facts = school.train("llm", sample_size=40)
    assert facts["stages"][0] + facts["leaked_rows_removed"] == 40


def test_an_answer_is_learnt_from_whatever_the_day_on_which_it_was_given(usable: Settings) -> None:
    school = School(usable, make_task())
    answers = [{**row, "prompt_hash": "q"} for row in frames.annotations(school.task, 50)]
    frames.put(school.lake, "annotations", answers, school.task, day="2026-11-12")
    facts = school.train("llm", prompt_hash="q")
    assert facts["stages"][0] + facts["leaked_rows_removed"] == 50


def test_a_text_that_gold_tests_on_is_not_learnt_under_another_id(usable: Settings) -> None:
    school = School(usable, make_task())
    copies = [{**row, "id": f"copy of {row['id']}"} for row in frames.gold(school.task, range(24, 36), "test")]
    frames.put(school.lake, "gold", copies, school.task)
    facts = school.train("llm")
    assert (facts["leaked_rows_removed"], facts["stages"]) == (24, [ANNOTATED - 24])


def test_an_annotator_that_gave_one_label_only_is_refused_before_a_model_is_opened(usable: Settings) -> None:
    school = School(usable.model_copy(update={"model_paths": {}}), make_task())
    collapsed = [row | {"prompt_hash": "q", "label": "positive"} for row in frames.annotations(school.task, ANNOTATED)]
    frames.put(school.lake, "annotations", collapsed, school.task)
    with pytest.raises(DataError, match=r"too few LLM labels of a class .* 'negative': 0"):
        train(
            Run(school.task, DAY, "night"),
            lake=school.lake,
            registry=school.registry,
            settings=school.settings,
            prompt_hash="q",
            strategy="llm",
        )


def test_without_gold_to_test_on_nothing_is_trained(usable: Settings) -> None:
    school = School(usable.model_copy(update={"model_paths": {}}), make_task())
    school.task = school.task.model_copy(update={"name": "nobody_judged"})
    with pytest.raises(ConfigError, match="no gold test rows"):
        school.train("llm")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_trained_registered_and_labels_a_day(
    registry_settings: Settings, tmp_path: Path, architecture: str
) -> None:
    mirror = pretrained(tmp_path / "encoder", architecture)
    task = make_task(encoder={"max_length": LONGEST})
    school = School(registry_settings.model_copy(update={"model_paths": {task.encoder.model: mirror}}), task)
    version = school.registry.version(school.task.name, int(school.train("gold")["model_version"]))
    assert sum(school.label(version.version).values()) == ANNOTATED
    # What the task file leaves out is chosen for this encoder, and can be read where its metrics are.
    run = MlflowClient(registry_settings.mlflow_uri).get_run(version.run_id)
    assert run.data.params["learning_rate"] == "0.0001"


def test_the_page_of_the_training_run_is_one_that_mlflow_has(usable: Settings) -> None:
    school = School(usable, make_task())
    version = school.registry.version(school.task.name, int(school.train("gold")["model_version"]))
    _, experiment, _, run = school.registry.run_page(version).split("/")
    assert experiment.isdigit()
    assert run == version.run_id
