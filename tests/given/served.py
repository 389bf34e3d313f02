"""A task for the fake LLM, and what points it there."""

from pathlib import Path
from typing import Any

from pydantic import SecretStr

from llambert_etl.config import LabellingTask
from llambert_etl.llm.served import ServedAnnotator
from llambert_etl.settings import Server, Settings
from tests.fakes.llm import KEY, FakeLlm
from tests.given.tasks import task_fields

MODEL = "fake-1"
TEMPLATE = "{% block system %}One of: {{ labels | join(', ') }}.{% endblock %}{% block user %}{{ text }}{% endblock %}"


def served_fields(**annotator: Any) -> dict[str, Any]:
    """Return the fields of a task file that asks the server `fake`."""
    fields = task_fields()
    fields["prompt"]["template"] = "turns.j2"
    fields["annotator"] = {"server": "fake", "model": MODEL, "sample": 100, "method": "generate", **annotator}
    return fields


def served_task(**annotator: Any) -> LabellingTask:
    return LabellingTask.model_validate(served_fields(**annotator))


def server(url: str, **changes: Any) -> Server:
    """Return a fake's address and key, with waits short enough for tests."""
    given = {"url": url, "api_key": SecretStr(KEY), "patience_seconds": 1.0, "batch_poll_seconds": 0.02}
    return Server.model_validate({**given, **changes})


def write_template(include: Path) -> None:
    (include / "prompts").mkdir(exist_ok=True)
    (include / "prompts" / "turns.j2").write_text(TEMPLATE)


def served(llm: FakeLlm, include: Path, task: LabellingTask | None = None, **changes: Any) -> ServedAnnotator:
    write_template(include)
    settings = Settings(lake=str(include / "lake"), include=include, servers={"fake": server(llm.url, **changes)})
    return ServedAnnotator.load(task or served_task(), settings)


def texts(n: int) -> list[str]:
    return [f"text {number}" for number in range(n)]
