"""Two runs with batch files at once: what one has claimed the other waits for, and sends nothing of it."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llambert_etl.annotation.backlog import Backlog
from llambert_etl.annotation.sent import Sent, SentNote
from llambert_etl.errors import ConfigError, TransientError
from llambert_etl.lake import Lake
from llambert_etl.llm.spending import Spending
from llambert_etl.manifest import Manifest
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from tests.fakes.llm import error
from tests.fakes.provider import FakeProvider
from tests.fakes.server import Answer
from tests.given.annotating import RuleAnnotator, even
from tests.given.batches import DAY, DOCUMENTS, BatchHouse, right
from tests.given.served import served_task

ASKED_ONCE = {f"text {number}": 1 for number in range(DOCUMENTS)}
POSTED = ("POST", "/batches")
UPLOADED = ("POST", "/files")


def note(batches: BatchHouse) -> Path:
    (found,) = Path(batches.lake.uri).glob("_batches/reviews/*.json")
    return found


def once(request: tuple[str, str], act: Callable[[], object]) -> Callable[[str, str], Answer | None]:
    """Act when a request comes for the first time, before or after it is served."""
    left = [request]

    def hook(method: str, path: str) -> None:
        if (method, path) in left:
            left.remove((method, path))
            act()

    return hook


def test_two_runs_send_one_batch_and_both_read_it(batches: BatchHouse, provider: FakeProvider, tmp_path: Path) -> None:
    other = threading.Event()

    def meanwhile(method: str, path: str) -> Answer | None:
        if (method, path) == UPLOADED:
            assert other.wait(60), "the other run has not looked for what is being sent"
        if (method, path) == ("GET", "/batches"):
            other.set()
        return None

    provider.before = meanwhile
    batches.clock = lambda: 0.0
    with ThreadPoolExecutor(2) as pool:
        done: list[Manifest] = list(pool.map(batches.annotate, ["r1", "r2"]))
    assert (len(provider.batches), provider.answered) == (1, ASKED_ONCE)
    assert provider.requests.count(UPLOADED) == 1
    assert right(batches)
    assert sum(each.rows["labelled"] for each in done) == DOCUMENTS
    assert [each.rows["read"] for each in done] == [DOCUMENTS] * 2


def test_a_run_that_was_taken_for_dead_as_it_uploaded_sends_nothing_under_its_old_claim(
    batches: BatchHouse, provider: FakeProvider
) -> None:
    provider.before = once(UPLOADED, lambda: note(batches).write_bytes(b""))
    assert batches.annotate().rows["labelled"] == DOCUMENTS
    assert (provider.requests.count(UPLOADED), len(provider.batches)) == (2, 1)
    assert provider.answered == ASKED_ONCE


def test_a_run_that_was_taken_for_dead_as_it_sent_cancels_what_it_sent(
    batches: BatchHouse, provider: FakeProvider
) -> None:
    def another_takes_over() -> None:
        note(batches).write_bytes(b"")
        batches.annotate("r2")

    provider.after = once(POSTED, another_takes_over)
    done = batches.annotate("r1")
    assert done.rows["answered_elsewhere"] == DOCUMENTS
    assert {batch["id"]: batch["status"] for batch in provider.batches.values()} == {
        "batch_0": "cancelled",
        "batch_1": "completed",
    }
    assert right(batches)


def test_a_run_whose_batch_another_has_found_and_read_before_it_was_told_of_it_has_nothing_to_do(
    batches: BatchHouse, provider: FakeProvider
) -> None:
    provider.after = once(POSTED, lambda: batches.annotate("r2"))
    assert batches.annotate("r1").rows["answered_elsewhere"] == DOCUMENTS
    assert (len(provider.batches), provider.answered) == (1, ASKED_ONCE)
    assert right(batches)


def test_a_run_that_reads_late_leaves_the_note_of_the_next_batch(batches: BatchHouse, provider: FakeProvider) -> None:
    def another_reads_and_sends_more() -> None:
        known = json.loads(note(batches).read_bytes())
        batches.annotate("r2")
        note(batches).write_text(json.dumps({**known, "intent": "the next", "file": None, "batch": None}))

    provider.before = once(("GET", "/files/file-1/content"), another_reads_and_sends_more)
    done = batches.annotate("r1")
    assert done.rows["answered_elsewhere"] == DOCUMENTS
    assert provider.requests[-1] == ("GET", "/batches")  # it looks for the next one


def test_a_claim_that_never_was_sent_is_taken_away(batches: BatchHouse, provider: FakeProvider) -> None:
    lost = {"intent": "lost", "batch": None, "documents": {"0" * 64: "d1"}}
    batches.annotate()
    note(batches).write_text(json.dumps(lost))
    assert batches.annotate("r2").rows["reused"] == DOCUMENTS
    assert note(batches).read_bytes() == b""
    assert len(provider.batches) == 1


def test_a_run_that_asks_live_stops_when_another_claims_the_same_for_a_batch(
    provider: FakeProvider, tmp_path: Path
) -> None:
    batches = BatchHouse(provider.url, tmp_path, concurrency=1)
    claims = iter([batches.annotate])

    def claim_at_the_first(text: str, nth: int) -> None:
        for annotate in claims:
            provider.before = lambda method, path: error(503) if (method, path) == POSTED else None
            with pytest.raises(TransientError):
                annotate("r2")

    provider.fault = claim_at_the_first
    with pytest.raises(ConfigError, match="batch of unknown name about 12 documents is out"):
        batches.annotate_live()
    # The batch in flight is kept.
    assert len(batches.rows()) == provider.answered.total() == 4


def test_of_many_claims_on_a_store_one_stands_and_no_other_can_take_it_away(lake: Lake, settings: Settings) -> None:
    task = served_task()
    spending = Spending(task.annotator)
    work = Backlog(Run(task, DAY, "r1"), lake=lake, annotator=RuleAnnotator(even), prompt_hash="p", spending=spending)
    note = SentNote(work, settings)
    claims = [Sent.claim({f"text {number}": "d"}) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        stood = list(pool.map(lambda claim: note.swap(None, claim), claims))
    first = note.read()
    assert first is not None
    assert {claim.intent for claim in stood if claim} == {first.intent}
    late = [claim for claim in claims if claim != first]
    assert [note.swap(claim, None) for claim in late] == [first] * 7
    assert note.swap(first, None) is None
