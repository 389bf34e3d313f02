"""A failed step reaches its task's channel once, and nothing that goes wrong with an alert is any step's business."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dags.conftest import write_task
from tests.dags.deployed import build
from tests.fakes.webhook import PATH, Webhook

DAY = "2026-11-10"
GATE = {"exit": 65, "reason": "llambert: check labels: expected >= 0.05 of <!channel>, observed 0.01"}
RunDag = Callable[..., Any]


@pytest.fixture
def channel(include: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    """The channel that the task `films` names."""
    write_task(include, "films", "alerts: nlp")
    with Webhook() as hook:
        monkeypatch.setenv("LLAMBERT_ALERTS", json.dumps({"nlp": hook.secret}))
        yield hook


def test_a_refusing_gate_is_told_once_with_its_reason_and_where_to_look(
    cli: Any, run_dag: RunDag, channel: Webhook
) -> None:
    cli.reply(plan={"facts": {"shards": 1}}, **{"check labels": GATE})
    run = run_dag("label", DAY)
    assert (run.states["check_labels"], run.states["publish"]) == ("failed", "upstream_failed")
    (text,) = channel.texts
    first, _, page, report = text.splitlines()
    assert first.startswith(f"films__label {DAY}: step check_labels was refused: llambert: check labels: expected")
    assert "observed 0.01" in first
    assert page.endswith("/tasks/check_labels?try_number=1")
    assert f"/llambert/reports/films/{DAY}/labels-" in report


def test_a_champion_that_is_gone_is_told_at_once_and_nothing_is_labelled(
    cli: Any, run_dag: RunDag, channel: Webhook
) -> None:
    cli.reply(plan={"exit": 78, "reason": "llambert: films: its champion is gone"})
    run = run_dag("label", DAY)
    assert (run.states["plan"], run.states["publish"]) == ("failed", "upstream_failed")
    assert cli.steps == ["plan"]
    (text,) = channel.texts
    assert text.startswith(f"films__label {DAY}: step plan failed: llambert: films: its champion is gone\n")


def test_what_a_step_says_cannot_call_a_whole_chat(cli: Any, run_dag: RunDag, channel: Webhook) -> None:
    cli.reply(plan={"facts": {"shards": 1}}, **{"check labels": GATE})
    run_dag("label", DAY)
    assert "&lt;!channel&gt;" in channel.texts[0]


def test_a_try_that_is_followed_by_another_tells_nothing(cli: Any, run_dag: RunDag, channel: Webhook) -> None:
    from llambert_etl.orchestration.alerts import Alert

    cli.reply(plan={"exit": 75, "reason": "registry: no answer"})
    dag = build("label")
    for step in dag.tasks:
        callbacks = step.partial_kwargs["on_failure_callback"] if step.is_mapped else step.on_failure_callback
        assert [type(each) for each in callbacks] == [Alert]
        assert not (step.partial_kwargs.get("on_retry_callback") if step.is_mapped else step.on_retry_callback)


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_channel_that_refuses_leaves_the_step_its_own_error(
    cli: Any,
    run_dag: RunDag,
    include: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    write_task(include, "films", "alerts: nlp")
    cli.reply(plan={"exit": 65, "reason": "llambert: the reason"})
    with Webhook(status) as hook:
        monkeypatch.setenv("LLAMBERT_ALERTS", json.dumps({"nlp": hook.secret}))
        run = run_dag("label", DAY)
    assert len(hook.texts) == 1
    assert run.states["plan"] == "failed"
    assert f"answered {status}" in run.said
    assert PATH not in run.said


@pytest.mark.parametrize(
    ("alerts", "logged"),
    [
        ({"nlp": f"http://127.0.0.1:1{PATH}"}, "cannot be reached: ConnectError"),
        ({"nlp": f"no address{PATH}"}, "cannot be reached"),
        ({}, "not among LLAMBERT_ALERTS"),
    ],
)
def test_a_channel_that_is_not_there_is_a_line_in_the_log_without_its_address(
    cli: Any,
    run_dag: RunDag,
    include: Path,
    monkeypatch: pytest.MonkeyPatch,
    alerts: dict[str, str],
    logged: str,
) -> None:
    write_task(include, "films", "alerts: nlp")
    monkeypatch.setenv("LLAMBERT_ALERTS", json.dumps(alerts))
    cli.reply(plan={"exit": 65, "reason": "llambert: the reason"})
    run = run_dag("label", DAY)
    assert run.states["plan"] == "failed"
    assert logged in run.said
    assert PATH not in run.said


def test_a_task_without_a_channel_has_no_alert() -> None:
    assert not build("label").get_task("plan").on_failure_callback
