"""A document that the server cannot answer: it has its tries, stops nothing, and is then asked about on request."""

from pathlib import Path
from typing import Any

import pytest

from llambert_etl.corpus.answers import outcomes
from llambert_etl.corpus.tries import MAX_TRIES
from llambert_etl.errors import ConfigError, TransientError
from llambert_etl.lake import Lake
from llambert_etl.llm.annotators import open_annotator
from llambert_etl.llm.prompts import prompt_hash
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.steps.annotate import annotate
from llambert_etl.steps.check import check_annotations
from tests.fakes.llm import FakeLlm, error
from tests.fakes.server import Answer
from tests.given.annotating import RuleAnnotator, even, ingest, run_annotate
from tests.given.served import served_task, server, write_template
from tests.given.tasks import make_task
from tests.unit.quality import frames

DAY = Partition(frames.DAY)
DOCUMENTS, BAD = 12, "text 5"
LATER = [f"later {number}" for number in range(MAX_TRIES)]


def broken(text: str, nth: int) -> Answer | None:
    return error(500) if text == BAD else None


class Nights:
    """A lake and a served task, annotated night by night."""

    def __init__(self, llm: FakeLlm, root: Path, **limits: Any) -> None:
        write_template(root)
        given: dict[str, Any] = {"concurrency": 1, "patience_seconds": 0.2, **limits}
        self.here = Settings(lake=str(root / "lake"), include=root, servers={"fake": server(llm.url, **given)})
        self.lake, self.task = Lake(self.here.lake), served_task()
        self.lake.create_tables()
        frames.put(self.lake, "documents", frames.documents(self.task, DOCUMENTS), self.task)

    def annotate(self, run: str, **options: Any) -> Manifest:
        annotator, hashed = open_annotator(self.task, self.here), prompt_hash(self.task, self.here.include)
        return annotate(Run(self.task, DAY, run), lake=self.lake, annotator=annotator, prompt_hash=hashed, **options)

    def check(self) -> Manifest:
        hashed = prompt_hash(self.task, self.here.include)
        return check_annotations(Run(self.task, DAY, "check"), lake=self.lake, prompt_hash=hashed)

    def rows(self) -> list[dict[str, Any]]:
        return self.lake.scan("annotations", self.task.name).collect().to_dicts()


@pytest.fixture
def nights(llm: FakeLlm, tmp_path: Path) -> Nights:
    return Nights(llm, tmp_path)


def test_one_bad_document_fails_in_so_many_runs_and_is_then_left_alone(nights: Nights, llm: FakeLlm) -> None:
    llm.fault = broken
    for run in LATER:
        assert nights.annotate(run).rows["failed"] == 1
    asked = llm.asked[BAD]
    done = nights.annotate("the night after")
    assert done.rows == {
        "read": DOCUMENTS,
        "labelled": 0,
        "unparsed": 0,
        "failed": 0,
        "reused": DOCUMENTS - 1,
        "failed_for_good": 1,
    }
    assert llm.asked[BAD] == asked
    checked = nights.check()
    assert checked.rows["failed"] == 1
    assert checked.facts["profile"]["measures"]["failed_for_good"] == 1  # type: ignore[index, call-overload]
    assert outcomes(nights.task.name, nights.lake) == {"labelled": DOCUMENTS - 1, "failed for good": 1}


def test_a_document_that_has_failed_for_good_is_asked_again_on_request(nights: Nights, llm: FakeLlm) -> None:
    llm.fault = broken
    for run in LATER:
        nights.annotate(run)
    llm.fault = lambda text, nth: None
    assert nights.annotate("by hand", retry_failed=True).rows["labelled"] == 1
    assert nights.annotate("after").rows["reused"] == DOCUMENTS
    assert outcomes(nights.task.name, nights.lake) == {"labelled": DOCUMENTS}


def test_a_document_that_a_busy_server_did_not_come_to_is_asked_about_again(nights: Nights, llm: FakeLlm) -> None:
    llm.fault = lambda text, nth: error(429) if text == BAD else None
    for run in LATER:
        nights.annotate(run)
    llm.fault = lambda text, nth: None
    assert nights.annotate("less busy").rows["labelled"] == 1


def test_the_tries_of_one_run_are_one_try(nights: Nights, llm: FakeLlm) -> None:
    llm.fault = broken
    for _ in range(MAX_TRIES):
        nights.annotate("cleared")
    assert nights.annotate("another").rows["failed"] == 1
    assert {row["run"] for row in nights.rows() if row["status"] == "failed"} == {"cleared", "another"}
    assert len(nights.rows()) == DOCUMENTS + 1


def test_a_server_that_is_down_is_transient_and_uses_up_no_try(nights: Nights, llm: FakeLlm) -> None:
    nights.annotate("good")
    frames.put(nights.lake, "documents", frames.documents(nights.task, DOCUMENTS + 1), nights.task)
    llm.fault = lambda text, nth: error(503)
    for run in LATER:
        with pytest.raises(TransientError, match="no answer about 1 of 1 documents"):
            nights.annotate(run)
    llm.fault = lambda text, nth: None
    assert nights.annotate("up again").rows["labelled"] == 1


def test_a_server_that_goes_down_half_way_uses_up_no_try(nights: Nights, llm: FakeLlm) -> None:
    for number, run in enumerate(LATER):
        llm.fault = lambda text, nth, most=number + 1: error(503) if llm.answered.total() >= most else None
        with pytest.raises(TransientError, match="no answer about 3 of 4 documents"):
            nights.annotate(run)
    assert {row["reason"] for row in nights.rows() if row["status"] == "failed"} == {"given_up http_503"}
    llm.fault = lambda text, nth: None
    assert nights.annotate("up again").rows["labelled"] == DOCUMENTS - len(LATER)


@pytest.mark.parametrize("concurrency", [1, 3], ids=["the last one", "beside others"])
def test_a_bad_document_does_not_end_the_step_though_nothing_is_heard_after_it(
    llm: FakeLlm, tmp_path: Path, concurrency: int
) -> None:
    order: list[str] = []

    def last_of_its_batch(text: str, nth: int) -> Answer | None:
        if text not in order:
            order.append(text)
        return error(500) if order.index(text) == 4 * concurrency - 1 else None

    llm.fault = last_of_its_batch
    done = Nights(llm, tmp_path, concurrency=concurrency).annotate("r1")
    assert (done.rows["labelled"], done.rows["failed"]) == (DOCUMENTS - 1, 1)
    assert done.reasons == {"http_500": 1}


def test_a_whole_batch_of_refused_documents_does_not_end_a_step_that_has_others(nights: Nights, llm: FakeLlm) -> None:
    llm.fault = lambda text, nth: error(400, "context_length_exceeded") if int(text.split()[1]) < 4 else None
    nights.annotate("r1")
    done = nights.annotate("r2")  # the four are left, a batch of their own
    assert done.reasons == {"context_length_exceeded": 4}
    # Without an answer to compare with, the fault may be the request's.
    llm.fault = lambda text, nth: error(400, "context_length_exceeded")
    with pytest.raises(ConfigError, match="refused all of 4 documents"):
        nights.annotate("r3")


def test_what_asking_again_to_tell_them_apart_costs_is_told(nights: Nights, llm: FakeLlm) -> None:
    llm.fault = broken
    nights.annotate("r1")
    answered = llm.answered.total()
    done = nights.annotate("r2")
    assert llm.answered.total() == answered + 1
    assert (done.facts["asked"], done.tokens) == (1, 22)


def test_an_annotator_that_answers_nothing_blames_no_document(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    lake.create_tables()
    ingest(lake, make_task(), DAY, range(4))
    for run in LATER:
        assert run_annotate(lake, RuleAnnotator(lambda text: None), run=run).rows["failed"] == 4
    assert run_annotate(lake, RuleAnnotator(even)).rows["labelled"] == 4
