"""`llambert models`: what a person types to have models in the lake, and to see which are there."""

import json
from collections.abc import Callable

import pytest

from laptop.environment import variables
from llambert_etl.cli import run
from llambert_etl.lake import Lake
from llambert_etl.settings import Settings
from tests.fakes.hub import FILES, TOKEN, FakeHub
from tests.given.tasks import make_task


@pytest.fixture
def deployed(hub: FakeHub, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def deploy(**tasks: str) -> None:
        (settings.include / "tasks").mkdir(parents=True)
        for name, content in tasks.items():
            (settings.include / "tasks" / f"{name}.yaml").write_text(content)
        for name, value in variables(settings).items():
            monkeypatch.setenv(name, value)

    return deploy


def test_one_command_mirrors_the_models_of_a_task(
    hub: FakeHub, deployed: Callable[..., None], settings: Settings, lake: Lake, capfd: pytest.CaptureFixture[str]
) -> None:
    llm, small = (hub.publish(name, FILES) for name in ("tests/llm", "tests/small"))
    hub.repos["tests/llm"].gated = True
    task = make_task(
        annotator={"model": "tests/llm", "revision": llm}, encoder={"model": "tests/small", "revision": small}
    )
    deployed(reviews=json.dumps(task.model_dump(mode="json")))
    assert run(["models", "pull", "--task", "reviews"]) == 0
    said = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(each["model"], each["fetched"]) for each in said] == [("tests/llm", 5), ("tests/small", 5)]
    assert run(["models", "pull", "tests/small", "--revision", small]) == 0
    assert json.loads(capfd.readouterr().out)["fetched"] == 0
    assert run(["models", "list"]) == 0
    out, err = capfd.readouterr()
    assert [json.loads(line)["model"] for line in out.splitlines()] == ["tests/llm", "tests/small"]
    assert TOKEN not in out + err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["tests/model"],
        ["tests/model", "--revision", "main"],
        ["model", "--revision", "0" * 40],
        ["../model", "--revision", "0" * 40],
        ["tests/model", "--revision", "0" * 40, "--task", "reviews"],
    ],
)
def test_a_pull_without_a_pinned_model_is_refused(
    deployed: Callable[..., None], arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    deployed()
    assert run(["models", "pull", *arguments]) == 78
    assert "models pull: give --task NAME, or" in capfd.readouterr().err
