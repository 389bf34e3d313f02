"""The commands around a server, as a person types them: estimate, annotate, and batch files by hand."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from laptop.environment import variables
from llambert_etl.cli import run
from llambert_etl.corpus.tries import MAX_TRIES
from llambert_etl.manifest import Manifest
from tests.fakes.provider import FakeProvider, jsonl
from tests.given.batches import DAY, DOCUMENTS, EACH, BatchHouse
from tests.given.served import served_fields


@pytest.fixture
def batches(batches: BatchHouse, monkeypatch: pytest.MonkeyPatch) -> BatchHouse:
    """The house as the deployment of this process."""
    for name, value in variables(batches.settings).items():
        monkeypatch.setenv(name, value)
    return batches


def write_task(include: Path, **annotator: Any) -> None:
    (include / "tasks").mkdir(exist_ok=True)
    (include / "tasks" / "reviews.yaml").write_text(yaml.safe_dump(served_fields(**annotator), sort_keys=False))


def manifest(capfd: pytest.CaptureFixture[str], *command: str) -> Manifest:
    assert run([*command, "--task", "reviews", "--partition", DAY]) == 0, capfd.readouterr().err
    return Manifest.model_validate_json(capfd.readouterr().out.splitlines()[-1])


def rows(done: Manifest) -> dict[str, int]:
    return {name: count for name, count in done.rows.items() if count}


@pytest.mark.parametrize(("batch", "share"), [(False, 1.0), (True, 0.5)], ids=["live", "batch file"])
def test_what_an_estimate_asked_is_not_asked_by_annotate_which_costs_what_it_said(
    batches: BatchHouse, provider: FakeProvider, capfd: pytest.CaptureFixture[str], batch: bool, share: float
) -> None:
    write_task(batches.settings.include, batch=batch)
    said, done = manifest(capfd, "estimate", "--probe", "2"), manifest(capfd, "annotate")
    assert rows(said) == {"read": DOCUMENTS, "labelled": 2, "left": DOCUMENTS - 2}
    assert rows(done) == {"read": DOCUMENTS, "labelled": DOCUMENTS - 2, "reused": 2}
    assert said.cost == pytest.approx(2 * EACH)
    assert done.cost == pytest.approx(share * (DOCUMENTS - 2) * EACH)
    assert dict(said.facts["forecast"])["usd"] == pytest.approx(done.cost, abs=1e-4)  # type: ignore[call-overload]
    assert set(provider.answered.values()) == {1}
    assert len(provider.batches) == batch


@pytest.mark.parametrize("batch", [False, True], ids=["live", "batch file"])
def test_a_document_that_has_failed_for_good_is_asked_about_on_request_alone(
    batches: BatchHouse, provider: FakeProvider, capfd: pytest.CaptureFixture[str], batch: bool
) -> None:
    refused = {"status_code": 400, "body": {"error": {"code": "content_filter"}}}
    provider.spoil = lambda lines: [{**lines[0], "response": refused}, *lines[1:]]
    for run_ in map(str, range(MAX_TRIES)):
        batches.annotate(run_)
    provider.spoil = lambda lines: lines
    write_task(batches.settings.include, batch=batch)
    assert rows(manifest(capfd, "annotate")) == {"read": DOCUMENTS, "reused": DOCUMENTS - 1, "failed_for_good": 1}
    done = manifest(capfd, "annotate", "--retry-failed")
    assert rows(done) == {"read": DOCUMENTS, "reused": DOCUMENTS - 1, "labelled": 1}


@pytest.mark.parametrize("options", [["--sample", "5"], ["--strategy", "combined"]], ids=["sample", "strategy"])
def test_a_batch_goes_out_and_comes_back_by_hand(
    batches: BatchHouse, provider: FakeProvider, capfd: pytest.CaptureFixture[str], tmp_path: Path, options: list[str]
) -> None:
    write_task(batches.settings.include, sample=3, extra=2)
    assert rows(manifest(capfd, "estimate", "--probe", "0", *options)) == {"read": 5, "left": 5}
    requests, results = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    assert rows(manifest(capfd, "batch", "write", str(requests), *options)) == {"read": 5, "written": 5}
    results.write_bytes(jsonl(batches.results(provider, requests)))
    done = manifest(capfd, "batch", "read", str(results), *options)
    assert rows(done) == {"read": 5, "labelled": 5}
    assert done.cost == pytest.approx(0.5 * 5 * EACH)
    assert not provider.requests
