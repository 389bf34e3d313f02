"""The commands around a server, as a person types them: estimate, annotate, and batch files by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from llambert_etl.cli import run
from llambert_etl.stack.environment import variables
from tests.batches import DAY, DOCUMENTS, BatchHouse
from tests.fake_llm import ANSWER_TOKENS, PROMPT_TOKENS
from tests.fake_provider import FakeProvider, jsonl
from tests.served import served_fields


@pytest.fixture
def batches(batches: BatchHouse, monkeypatch: pytest.MonkeyPatch) -> BatchHouse:
    """The house as the deployment of this process."""
    for name, value in variables(batches.settings).items():
        monkeypatch.setenv(name, value)
    return batches


def write_task(include: Path, **annotator: Any) -> None:
    (include / "tasks").mkdir(exist_ok=True)
    (include / "tasks" / "reviews.yaml").write_text(yaml.safe_dump(served_fields(**annotator), sort_keys=False))


def rows(capfd: pytest.CaptureFixture[str], *command: str) -> dict[str, int]:
    """Run a command and return the counts of its manifest."""
    assert run([*command, "--task", "reviews", "--partition", DAY]) == 0, capfd.readouterr().err
    found: dict[str, int] = json.loads(capfd.readouterr().out.splitlines()[-1])["rows"]
    return {name: count for name, count in found.items() if count}


@pytest.mark.parametrize("batch", [False, True], ids=["live", "batch file"])
def test_what_an_estimate_asked_is_not_asked_by_annotate(
    batches: BatchHouse, provider: FakeProvider, capfd: pytest.CaptureFixture[str], batch: bool
) -> None:
    write_task(batches.settings.include, batch=batch)
    assert rows(capfd, "estimate", "--probe", "2") == {"read": DOCUMENTS, "labelled": 2, "left": DOCUMENTS - 2}
    assert rows(capfd, "annotate") == {"read": DOCUMENTS, "labelled": DOCUMENTS - 2, "reused": 2}
    assert set(provider.answered.values()) == {1}
    assert len(provider.batches) == batch


def test_a_batch_goes_out_and_comes_back_by_hand(
    batches: BatchHouse, provider: FakeProvider, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_task(batches.settings.include)
    requests, results = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    written = rows(capfd, "batch", "write", str(requests), "--sample", "5")
    assert written == {"read": 5, "written": 5}
    results.write_bytes(jsonl(batches.results(provider, requests)))
    assert rows(capfd, "batch", "read", str(results), "--sample", "5") == {"read": 5, "labelled": 5}
    (commit,) = batches.lake.commits("annotations", "reviews")
    assert commit.manifest
    assert commit.manifest.cost == pytest.approx(0.5 * 5 * (PROMPT_TOKENS * 30 + ANSWER_TOKENS * 60) / 1e6)
    assert not provider.requests
