"""Promotion by approval: what is asked, who answers, and what each answer does."""

import copy
import datetime
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from llambert_etl.errors import ConfigError, LlambertError
from tests.dags.conftest import write_task
from tests.dags.deployed import build
from tests.fakes.webhook import Webhook

DAY = "2026-11-10"
OF = ["--candidate=4"]  # what `train` registered
FACTS: dict[str, Any] = {
    "decision": "promoted",
    "reason": "gold macro F1 0.9100 against 0.8800",
    "candidate": 4,
    "comparison": {
        "candidate": {
            "version": 4,
            "trained_upto": DAY,
            "strategy": "combined",
            "accuracy": 0.92,
            "macro_f1": 0.91,
            "ece": 0.02,
            "ece_mass": 0.031,
            "log_loss": 0.21,
            "f1": {"positive": 0.9, "negative": 0.92},
        },
        "champion": {
            "version": 3,
            "trained_upto": "2026-11-03",
            "strategy": "llm",
            "accuracy": 0.89,
            "macro_f1": 0.88,
            "ece": 0.05,
            "ece_mass": 0.062,
            "log_loss": 0.33,
            "f1": {"positive": 0.87, "negative": 0.89},
        },
        "gold": 1000,
        "gain": {"accuracy": [0.03, 0.01, 0.05], "macro_f1": [0.03, 0.012, 0.048], "p": 0.004},
        "changes": {
            "labels": 12_808,
            "sample": 2_000,
            "changed": 120,
            "low": 644,
            "high": 915,
            "pairs": [["positive", "negative", 80], ["negative", "positive", 40]],
        },
    },
}
RunDag = Callable[..., Any]


class Desk:
    """Runs the retrain of `films` and answers its question through Airflow's own API."""

    def __init__(self, cli: Any, run_dag: RunDag, include: Path, api: Any) -> None:
        write_task(include, "films", "retrain: {approval: true}\nalerts: nlp")
        self.cli, self.api, self._run_dag = cli, api, run_dag

    def run(self, respond: Callable[[Any], object], **facts: object) -> Any:
        """Run it to its end; `respond` is called with the waiting task instance."""
        self.cli.reply(**{"training-due": {"facts": {"due": True}}, "promote": {"facts": {**FACTS, **facts}}})
        with ThreadPoolExecutor(1) as pool:
            answered = pool.submit(lambda: respond(_waiting()))
            run = self._run_dag("retrain", DAY)
            answered.result(timeout=60)
        return run

    def answer(self, waiting: Any, option: str, reason: str = "", role: str = "admin") -> int:
        path = f"/api/v2/dags/films__retrain/dagRuns/{waiting.run_id}/taskInstances/approve/-1/hitlDetails"
        body = {"chosen_options": [option], "params_input": {"reason": reason}}
        return int(self.api(role).patch(path, json=body).status_code)

    def promotions(self) -> list[list[str]]:
        return [call[9:] for call in self.cli.calls if call[0] == "promote"]


def _waiting() -> Any:
    """Return the newest task instance that waits for an answer, once there is one."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    end = time.monotonic() + 150
    while time.monotonic() < end:
        with create_session() as session:
            found = session.query(TaskInstance).filter(TaskInstance.state == "awaiting_input").first()
            if found:
                session.expunge_all()
                return found
        time.sleep(0.05)
    raise AssertionError("nothing waits for an answer")


@pytest.fixture(scope="module")
def clients() -> Callable[[str], TestClient]:
    from airflow.api_fastapi.app import create_app, init_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    app = create_app(apps="core")
    manager = init_auth_manager()

    def client(role: str) -> TestClient:
        token = manager.generate_jwt(SimpleAuthManagerUser(username="ada", role=role))
        return TestClient(app, headers={"Authorization": f"Bearer {token}"})

    return client


@pytest.fixture
def desk(cli: Any, run_dag: RunDag, include: Path, clients: Any) -> Desk:
    return Desk(cli, run_dag, include, clients)


def test_an_approval_shows_both_versions_and_promotes_with_the_name_of_who_gave_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[int] = []
    bodies: list[str] = []

    def respond(waiting: Any) -> None:
        path = f"/api/v2/dags/films__retrain/dagRuns/{waiting.run_id}/taskInstances/approve/-1/hitlDetails"
        bodies.append(desk.api("viewer").get(path).json()["body"])
        answers.append(desk.answer(waiting, "Approve", role="viewer"))
        answers.append(desk.answer(waiting, "Perhaps"))
        answers.append(desk.answer(waiting, "Approve", "fewer\nfalse positives"))
        answers.append(desk.answer(waiting, "Reject"))

    with Webhook() as hook:
        monkeypatch.setenv("LLAMBERT_ALERTS", json.dumps({"nlp": hook.secret}))
        run = desk.run(respond, bring_back=[DAY])
    assert answers == [403, 400, 200, 409]
    assert (run.states["promote"], run.states["keep"]) == ("success", "skipped")
    assert desk.promotions() == [
        ["--dry-run", *OF],
        [*OF, "--approved=ada: fewer false positives"],
    ]
    assert run.announced == {("films__champion", DAY)}
    (body,), (alert,) = bodies, hook.texts
    assert "| macro F1 | 0.9100 | 0.8800 | +0.0300 (+0.0120 to +0.0480) |" in body
    assert "| the same in bins of like many rows | 0.0310 | 0.0620 |" in body
    assert "| version | [4](http://127.0.0.1:5000/#/models/llambert.films/versions/4) |" in body
    assert "about 768 of 12,808 (6.0%; 644 to 915 with 95 % confidence, from a sample of 2,000)" in body
    assert "| positive | negative | 80 |" in body
    assert alert.splitlines()[0] == f"May the candidate for films be promoted, as of {DAY}?"
    assert "/tasks/approve/required_actions" in alert.splitlines()[1]


def test_a_refusal_skips_the_promotion_and_is_entered_as_the_decision(desk: Desk) -> None:
    run = desk.run(lambda waiting: desk.answer(waiting, "Reject", "too many flips"), bring_back=[])
    assert (run.state, run.states["promote"], run.states["keep"]) == ("success", "skipped", "success")
    assert desk.promotions() == [
        ["--dry-run", *OF],
        [*OF, "--keep=rejected by ada: too many flips"],
    ]
    assert run.announced == set()


def test_a_cleared_run_does_not_ask_about_another_candidate_under_its_first_question(include: Path) -> None:
    """Airflow keeps what an instance of a task has asked, also when it asks again; a new run has a page of its own."""

    class Store(dict[str, Any]):
        set = dict.__setitem__

    write_task(include, "films", "retrain: {approval: true}")
    step = build("retrain").get_task("approve")
    compared = copy.deepcopy(FACTS)
    ti = SimpleNamespace(xcom_pull=lambda **_: {"facts": compared})
    context = {"ti": ti, "task": step, "task_state_store": Store()}
    step._pre_execute_hook(context)
    step._pre_execute_hook(context)
    compared["comparison"]["candidate"]["version"] = 5
    with pytest.raises(ConfigError, match="trigger films__retrain again"):
        step._pre_execute_hook(context)


def test_silence_is_a_refusal(desk: Desk) -> None:
    def respond(waiting: Any) -> None:
        from airflow.jobs.job import Job
        from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session

        with create_session() as session:
            found = session.get(TaskInstance, waiting.id)
            assert found
            assert found.trigger_timeout - datetime.datetime.now(datetime.UTC) > datetime.timedelta(days=6)
            found.trigger_timeout = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)
        SchedulerJobRunner(Job()).check_awaiting_input_timeouts()

    run = desk.run(respond)
    assert run.states["promote"] == "skipped"
    assert desk.promotions()[-1] == [*OF, "--keep=rejected by nobody, in time"]


def test_nobody_is_asked_where_the_gate_would_keep_the_champion(desk: Desk, run_dag: RunDag) -> None:
    kept = {"decision": "kept", "reason": "not more than 0.0 better"}
    desk.cli.reply(**{"training-due": {"facts": {"due": True}}, "promote": {"facts": kept}})
    run = run_dag("retrain", DAY)
    assert (run.states["approve"], run.states["promote"], run.states["keep"]) == ("skipped", "skipped", "success")
    assert desk.promotions() == [["--dry-run", *OF], [*OF, "--keep=not more than 0.0 better"]]


def test_a_candidate_that_the_gate_refuses_is_shown_to_nobody(desk: Desk, run_dag: RunDag) -> None:
    refused = {"exit": 65, "reason": "llambert: gold macro F1 is 0.4, expected 0.9 or more"}
    desk.cli.reply(**{"training-due": {"facts": {"due": True}}, "promote": refused})
    run = run_dag("retrain", DAY)
    assert (run.states["compare"], run.states["approve"]) == ("failed", "upstream_failed")
    assert run.states["promote"] == "upstream_failed"
    assert len(desk.promotions()) == 1


def test_a_retrain_that_is_not_due_enters_nothing(desk: Desk, run_dag: RunDag) -> None:
    desk.cli.reply(**{"training-due": {"facts": {"due": False, "reason": "already trained"}}})
    run = run_dag("retrain", DAY)
    assert set(run.states.values()) == {"skipped"}
    assert desk.promotions() == []


@pytest.mark.parametrize("approval", ["", "retrain: {approval: true}"])
@pytest.mark.parametrize("told", [None, {"step": "train", "facts": {}}])
def test_a_decision_about_a_version_that_its_run_was_not_told_is_an_error_and_no_other_version_is_taken(
    include: Path, approval: str, told: object
) -> None:
    write_task(include, "films", approval)
    context = {"ti": SimpleNamespace(xcom_pull=lambda **_: told)}
    for step in build("retrain").tasks:
        if step.task_id in ("compare", "promote"):
            with pytest.raises(LlambertError, match="version"):
                step._pre_execute_hook({**context, "task": step})
