"""Batches of a provider: sent once whatever is killed, waited for by whichever try, and joined by id."""

import itertools
import os
import signal
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path

import pytest

from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.manifest import Manifest
from tests.fakes.llm import error
from tests.fakes.provider import FakeProvider, jsonl
from tests.fakes.server import Answer, json_answer
from tests.given.batches import ASKED_ONCE, DOCUMENTS, EACH, BatchHouse, right
from tests.processes.children import Child
from tests.unit.quality.frames import digest


def test_a_batch_is_sent_waited_for_and_joined_by_id(batches: BatchHouse, provider: FakeProvider) -> None:
    provider.spoil = lambda lines: lines[::-1]
    done = batches.annotate()
    assert done.rows == {"read": 12, "labelled": 12, "unparsed": 0, "failed": 0, "reused": 0}
    assert right(batches)
    assert (len(provider.batches), provider.answered) == (1, ASKED_ONCE)
    assert done.cost == pytest.approx(0.5 * DOCUMENTS * EACH)
    assert batches.annotate("r2").rows["reused"] == 12
    assert len(provider.batches) == 1


def test_a_file_is_written_where_we_say_whatever_the_provider_calls_it(
    batches: BatchHouse, provider: FakeProvider
) -> None:
    provider.name = "../../{}"
    assert batches.annotate().rows["labelled"] == DOCUMENTS
    assert provider.requests[-1] == ("GET", "/files/..%2F..%2F2/content")


def annotating(url: str, root: str) -> Generator[None, None, int]:
    batches = BatchHouse(url, Path(root))
    yield
    return batches.annotate().rows["labelled"]


@pytest.mark.parametrize(
    ("when", "request_"),
    [
        ("before", ("POST", "/files")),
        ("before", ("POST", "/batches")),
        ("after", ("POST", "/batches")),
        ("before", ("GET", "/batches/batch_0")),
        ("before", ("GET", "/files/file-1/content")),
    ],
    ids=["not sent", "file sent", "sent, but not told so", "waiting", "reading"],
)
def test_a_run_that_is_killed_is_gone_on_with_and_nothing_is_sent_twice(
    batches: BatchHouse, provider: FakeProvider, tmp_path: Path, when: str, request_: tuple[str, str]
) -> None:
    with Child(annotating, provider.url, str(tmp_path)) as killed:

        def kill(method: str, path: str) -> Answer | None:
            if (method, path) != request_:
                return None
            os.kill(killed.pid, signal.SIGKILL)
            return error(503)

        setattr(provider, when, kill)
        killed.ready().go()
        assert killed.wait() == -signal.SIGKILL
    provider.before = provider.after = lambda method, path: None
    assert batches.annotate().rows["labelled"] == DOCUMENTS
    assert right(batches)
    assert (len(provider.batches), provider.answered) == (1, ASKED_ONCE)


def test_a_batch_that_was_read_but_not_noted_as_read_changes_nothing(
    batches: BatchHouse, provider: FakeProvider
) -> None:
    notes: list[tuple[Path, bytes]] = []
    provider.before = lambda method, path: notes.extend(
        (note, note.read_bytes()) for note in Path(batches.lake.uri).glob("_batches/reviews/*.json") if not notes
    )
    provider.looks = 0
    batches.annotate()
    note, sent = notes[0]
    note.write_bytes(sent)
    done = batches.annotate("r2")
    assert (done.rows["labelled"], done.rows["reused"], len(batches.rows())) == (0, DOCUMENTS, DOCUMENTS)
    assert provider.requests.count(("GET", "/files/file-1/content")) == 2
    assert len(provider.batches) == 1


def test_an_intent_that_came_to_nothing_holds_nothing_up(
    batches: BatchHouse, provider: FakeProvider, tmp_path: Path
) -> None:
    provider.before = lambda method, path: error(503) if (method, path) == ("POST", "/batches") else None
    with pytest.raises(TransientError, match="batches: http_503"):
        batches.annotate()
    provider.before = lambda method, path: None
    with pytest.raises(ConfigError, match="batch of unknown name about 12 documents is out"):
        batches.annotate_live()
    requests = [{"custom_id": digest(text), "body": {"messages": [{"content": text}]}} for text in ASKED_ONCE]
    results = tmp_path / "results.jsonl"
    results.write_bytes(jsonl([provider.result(request) for request in requests]))
    batches.read(results)
    for again in (batches.annotate, batches.annotate_live):
        assert again().rows["reused"] == DOCUMENTS


@pytest.mark.parametrize("place", ["/files", "/batches"])
@pytest.mark.parametrize("forgetful", [False, True], ids=["found by its intent", "found by its file"])
def test_a_lost_answer_is_transient_and_the_next_try_finds_what_was_sent(
    batches: BatchHouse, provider: FakeProvider, place: str, forgetful: bool
) -> None:
    provider.forgetful = forgetful
    provider.after = lambda method, path: error(502) if (method, path) == ("POST", place) else None
    with pytest.raises(TransientError, match=rf"server 'fake': {place[1:]}: .*502.*; try again"):
        batches.annotate()
    provider.after = lambda method, path: None
    provider.batches |= {f"other_{n}": {"id": f"other_{n}", "status": "completed"} for n in range(3)}
    assert batches.annotate().rows["labelled"] == DOCUMENTS
    assert provider.answered == ASKED_ONCE


def test_a_batch_that_the_provider_lists_late_is_not_sent_again(batches: BatchHouse, provider: FakeProvider) -> None:
    provider.after = lambda method, path: error(502) if (method, path) == ("POST", "/batches") else None
    with pytest.raises(TransientError):
        batches.annotate()
    nothing_yet = iter([json_answer({"data": []})] * 3)
    provider.before = lambda method, path: next(nothing_yet, None) if (method, path) == ("GET", "/batches") else None
    batches.clock = partial(next, itertools.count(0.0))  # a look a second
    assert batches.annotate().rows["labelled"] == DOCUMENTS
    assert (len(provider.batches), provider.answered) == (1, ASKED_ONCE)


def test_a_batch_that_is_not_over_in_time_is_waited_for_by_the_next_try(provider: FakeProvider, tmp_path: Path) -> None:
    provider.looks = 4
    impatient = BatchHouse(provider.url, tmp_path, batch_wait_seconds=0.001)
    with pytest.raises(TransientError, match=r"batch batch_0 is in_progress, 0 of 0 done; run the step again"):
        impatient.annotate()
    assert BatchHouse(provider.url, tmp_path).annotate().rows["labelled"] == DOCUMENTS
    assert (len(provider.batches), provider.answered) == (1, ASKED_ONCE)


def test_faults_while_it_waits_are_waited_out(batches: BatchHouse, provider: FakeProvider) -> None:
    faults = iter([error(500), error(429), (200, {}, b"<html>")])
    provider.before = lambda method, path: next(faults, None) if path == "/batches/batch_0" else None
    assert batches.annotate().rows["labelled"] == DOCUMENTS


def test_a_run_that_is_asked_to_stop_while_it_waits_leaves_the_batch_to_the_next(
    batches: BatchHouse, provider: FakeProvider
) -> None:
    provider.before = lambda method, path: os.kill(os.getpid(), signal.SIGTERM) if "batch_0" in path else None
    with pytest.raises(TransientError, match="run the step again, it waits for the same"):
        batches.annotate()
    provider.before = lambda method, path: None
    assert batches.annotate().rows["labelled"] == DOCUMENTS
    assert len(provider.batches) == 1


def test_a_batch_that_somebody_cancelled_is_not_sent_again_by_its_run(
    batches: BatchHouse, provider: FakeProvider
) -> None:
    provider.spoil, provider.end = lambda lines: lines[:7], "cancelled"
    done = batches.annotate()
    assert (done.rows["labelled"], done.reasons) == (7, {"batch_cancelled": 5})
    assert len(provider.batches) == 1


def test_a_file_that_the_provider_refuses_as_a_whole_is_said_and_not_waited_for_again(
    batches: BatchHouse, provider: FakeProvider
) -> None:
    provider.end = "failed"
    with pytest.raises(ConfigError, match=r"refused batch batch_0 as a whole \(token_limit_exceeded\), nothing"):
        batches.annotate()
    provider.end = "completed"
    assert batches.annotate().rows["labelled"] == DOCUMENTS


def test_a_budget_cuts_the_batches_and_stops_after_the_one_in_flight(
    batches: BatchHouse, provider: FakeProvider
) -> None:
    with pytest.raises(DataError, match=r"of 150 tokens in run 'r1'; \d+ documents are left to ask"):
        batches.annotate(budget={"tokens": 150})
    assert 0 < provider.answered.total() < DOCUMENTS
    batches.annotate(budget={"tokens": 10_000})
    assert provider.answered == ASKED_ONCE


def test_what_is_sent_is_asked_in_no_other_way_meanwhile(
    batches: BatchHouse, provider: FakeProvider, tmp_path: Path
) -> None:
    provider.before = lambda method, path: error(401, "expired") if "batch_0" in path else None
    with pytest.raises(ConfigError, match="refuses the key"):
        batches.annotate()
    others: list[Callable[[], Manifest]] = [
        batches.annotate_live,
        lambda: batches.estimate(1),
        lambda: batches.write(tmp_path / "requests.jsonl"),
    ]
    for other in others:
        with pytest.raises(ConfigError, match="batch batch_0 about 12 documents is out; run `llambert annotate`"):
            other()
    assert provider.answered == ASKED_ONCE
    provider.before = lambda method, path: None
    assert batches.annotate().rows["labelled"] == DOCUMENTS
