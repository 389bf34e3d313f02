"""study prompts, study annotators: who is asked about what, how often, and what is told of it, over real HTTP."""

import json
from pathlib import Path
from typing import Any

import pytest

from llambert_etl.config import LabellingTask, StudyKind
from llambert_etl.errors import ConfigError, DataError
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.settings import Price, Settings
from llambert_etl.steps.study import study
from llambert_etl.studies.plan import StudyPlan
from llambert_etl.studies.subject import Subject
from tests.fakes.llm import FakeLlm, chat_answer, error
from tests.fakes.server import json_answer
from tests.given.served import MODEL, TEMPLATE, served_fields, server, write_template
from tests.given.tasks import REVISION
from tests.unit.quality import frames

DAY = Partition(frames.DAY)
TRAIN, TEST = range(12), range(12, 24)


@pytest.fixture
def llm(llm: FakeLlm) -> FakeLlm:
    """A server that is right about every gold text, unless it is asked in a clumsy way."""
    clumsy = json_answer(chat_answer("It depends."))
    llm.fault = lambda text, nth: clumsy if text.startswith("Well, text") else None
    return llm


@pytest.fixture
def here(llm: FakeLlm, tmp_path: Path) -> Settings:
    write_template(tmp_path)
    (tmp_path / "prompts" / "clumsy.j2").write_text(TEMPLATE.replace("{{ text }}", "Well, {{ text }}"))
    return Settings(
        lake=str(tmp_path / "lake"),
        include=tmp_path,
        state=tmp_path / "state",
        servers={"fake": server(llm.url)},
        prices={MODEL: Price(input=30.0, output=60.0)},
    )


def task(*examples: str) -> LabellingTask:
    fields = served_fields()
    fields["prompt"]["examples"] = [{"text": text, "label": "positive"} for text in examples]
    return LabellingTask.model_validate(fields)


def lake(settings: Settings, studied: LabellingTask) -> Lake:
    lake = Lake(settings.lake)
    lake.create_tables()
    for split, numbers in (("train", TRAIN), ("test", TEST)):
        frames.put(lake, "gold", frames.gold(studied, numbers, split), studied)
    return lake


def run_study(settings: Settings, kind: StudyKind, studied: LabellingTask, **plan: Any) -> tuple[Manifest, Any]:
    subject = Subject(
        run=Run(studied, DAY, "night"),
        plan=StudyPlan.model_validate(plan),
        prompt_hash="unused",
        lake=lake(settings, studied),
        settings=settings,
    )
    out = settings.state / "out"
    return study(kind, subject, registry=None, out=out), json.loads((out / "study.json").read_text())


def test_the_best_prompt_is_chosen_by_train_gold_and_told_by_test_gold(llm: FakeLlm, here: Settings) -> None:
    varied = {"templates": ["clumsy.j2", "turns.j2"], "shots": [0, 1]}
    done, told = run_study(here, "prompts", task("A gem."), prompts=varied)
    assert [(line["series"], line["x"], line["accuracy"]) for line in told["lines"]] == [
        ("clumsy", 0.0, 0.0),
        ("clumsy", 1.0, 0.0),
        ("turns", 0.0, 1.0),
        ("turns", 1.0, 1.0),
    ]
    assert told["findings"]["best by the train split"] == "turns with 0 shots"
    assert told["findings"]["on the test split"].startswith("100.0% right")
    assert "100.0% right" in told["findings"]["the task's own prompt"]
    # Four ways to ask about train; the best of them and the task's own about test.
    assert done.rows == {"read": 4 * 12 + 2 * 12, "asked": 72, "answered_before": 0}
    assert llm.asked["Well, text 3"] == 2
    assert llm.asked["Well, text 13"] == 0
    assert done.versions_read == {"gold": 2}


def test_a_study_that_is_run_again_asks_nothing(llm: FakeLlm, here: Settings) -> None:
    first, told = run_study(here, "prompts", task("A gem."), prompts={"shots": [0, 1]})
    asked = llm.asked.total()
    again, retold = run_study(here, "prompts", task("A gem."), prompts={"shots": [0, 1]})
    assert llm.asked.total() == asked
    assert again.rows["asked"] == 0
    assert (first.cost > 0, again.cost) == (True, 0)
    # What the answers had cost is told again.
    assert retold["lines"] == told["lines"]


def test_an_example_of_the_prompt_is_never_among_the_documents_that_it_is_judged_by(
    llm: FakeLlm, here: Settings
) -> None:
    _, told = run_study(here, "prompts", task("text 3", "text 13"))
    assert {outcome["tested"] for outcome in told["outcomes"]} == {11}
    asked = [body["messages"][-1]["content"] for body in llm.bodies]
    assert not {"text 3", "text 13"} & set(asked)


def test_a_study_whose_server_fails_goes_on_where_it_was(llm: FakeLlm, here: Settings) -> None:
    llm.fault = lambda text, nth: error(401) if text == "text 11" and nth == 1 else None
    with pytest.raises(ConfigError):
        run_study(here, "prompts", task(), prompts={"documents": 12})
    run_study(here, "prompts", task(), prompts={"documents": 12})
    assert set(llm.answered.values()) == {1}
    assert llm.asked["text 11"] == 2


def test_annotators_stand_side_by_side_with_what_they_cost(llm: FakeLlm, here: Settings) -> None:
    other = {**served_fields()["annotator"], "model": "free-1"}
    _, told = run_study(here, "annotators", task(), annotators={"compare": {"another": other}, "documents": 10})
    own, another = told["lines"]
    assert (own["series"], another["series"]) == (MODEL, "another")
    # 20 tokens of prompt at 30 USD a million, 2 of the answer at 60.
    assert own["details"]["USD for 1,000"] == pytest.approx(0.72)
    assert another["details"]["USD for 1,000"] == 0
    assert own["details"]["tokens each"] == 22
    assert own["details"]["unparsed, %"] == 0
    assert own["low"] < own["accuracy"] == 1.0


def test_a_budget_in_a_study_counts_what_the_annotators_before_spent(llm: FakeLlm, here: Settings) -> None:
    own, limited = served_fields()["annotator"], {"budget": {"tokens": 5 * 22}}
    compare = {name: {**own, "model": name, **more} for name, more in (("free", {}), ("limited", limited))}
    with pytest.raises(DataError, match="the budget is used up: 440 of 110 tokens"):
        run_study(here, "annotators", task(), annotators={"compare": compare, "documents": 10})
    assert llm.asked.total() == 20


def test_more_shots_than_the_task_has_examples_are_refused_before_anybody_is_asked(
    llm: FakeLlm, here: Settings
) -> None:
    with pytest.raises(DataError, match="3 shots are to be studied, but the task file has 1 examples"):
        run_study(here, "prompts", task("A gem."), prompts={"shots": [0, 3]})
    assert llm.asked.total() == 0


def test_an_annotator_named_like_the_task_s_own_is_refused(llm: FakeLlm, here: Settings) -> None:
    other = {**served_fields()["annotator"], "revision": "another"}
    with pytest.raises(ConfigError, match="'fake-1' is the name of the task's own annotator"):
        run_study(here, "annotators", task(), annotators={"compare": {MODEL: other}})


def test_prompts_are_not_compared_by_replies_that_were_given_to_one_of_them(llm: FakeLlm, here: Settings) -> None:
    fields = served_fields(server=None, model="tests/tiny-llama", revision=REVISION, recorded={"file": "said.csv"})
    fields["prompt"]["examples"] = []
    with pytest.raises(ConfigError, match="prompts cannot be compared by annotator.recorded"):
        run_study(here, "prompts", LabellingTask.model_validate(fields))


def test_without_gold_to_choose_by_nobody_is_asked(llm: FakeLlm, here: Settings) -> None:
    studied = task(*(f"text {number}" for number in TRAIN))
    with pytest.raises(DataError, match="no gold train rows to ask about"):
        run_study(here, "prompts", studied)
    assert llm.asked.total() == 0
