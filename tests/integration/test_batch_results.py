"""Results of a provider's batches: each is joined by id, what is missing is asked again, what is odd is said."""

import json
from pathlib import Path

import pytest

from llambert_etl.corpus.tries import MAX_TRIES
from llambert_etl.errors import ConfigError, DataError, TransientError
from tests.fakes.provider import FakeProvider, Line, jsonl
from tests.given.batches import ASKED_ONCE, DOCUMENTS, EACH, BatchHouse, right
from tests.unit.quality.frames import digest


def test_documents_without_a_result_fail_and_are_sent_again_by_the_next_run(
    batches: BatchHouse, provider: FakeProvider
) -> None:
    def spoil(lines: list[Line]) -> list[Line]:
        lines[1] = {**lines[1], "response": None, "error": {"code": "server_error", "message": "oh"}}
        lines[2]["response"] = {"status_code": 400, "body": {"error": {"code": "content_filter"}}}
        return lines[1:]

    provider.spoil = spoil
    done = batches.annotate()
    assert done.rows == {"read": 12, "labelled": 9, "unparsed": 0, "failed": 3, "reused": 0}
    assert done.reasons == {"not_in_batch": 1, "server_error": 1, "content_filter": 1}
    provider.spoil = lambda lines: lines
    assert batches.annotate("r2").rows["labelled"] == 3
    assert len(provider.batches) == 2


def test_what_an_expired_batch_did_not_come_to_is_sent_again_and_counted_once(
    batches: BatchHouse, provider: FakeProvider
) -> None:
    def spoil(lines: list[Line]) -> list[Line]:
        """Answer 60 % and say of one document that it was not come to, and of the others nothing."""
        provider.spoil, provider.end = lambda lines: lines, "completed"
        return [*lines[:7], {**lines[7], "response": None, "error": {"code": "batch_expired", "message": "too late"}}]

    provider.spoil, provider.end = spoil, "expired"
    done = batches.annotate()
    assert done.rows == {"read": 12, "labelled": 12, "unparsed": 0, "failed": 0, "reused": 0}
    assert right(batches)
    sent = [provider.files[batch["input_file_id"]].count(b"custom_id") for batch in provider.batches.values()]
    assert sent == [12, 5]
    assert done.cost == pytest.approx(0.5 * DOCUMENTS * EACH)  # the provider bills what it has answered


def test_a_batch_that_expires_before_anything_is_answered_is_transient(
    batches: BatchHouse, provider: FakeProvider
) -> None:
    provider.spoil, provider.end = lambda lines: [], "expired"
    with pytest.raises(TransientError, match=r"batch batch_0 is expired, but nothing of it is answered \(no results\)"):
        batches.annotate()
    assert (len(provider.batches), batches.rows()) == (1, [])
    provider.spoil, provider.end = lambda lines: lines, "completed"
    assert batches.annotate().rows["labelled"] == DOCUMENTS


@pytest.mark.parametrize(
    ("status", "code", "error_", "said"),
    [
        (500, "server_error", TransientError, r"is completed, but nothing of it is answered \(server_error\); run the"),
        (400, "context_length_exceeded", ConfigError, r"nothing of it is answered \(context_length_exceeded\); see"),
    ],
    ids=["failed", "refused"],
)
def test_a_batch_of_which_every_row_failed_is_no_success_and_blames_no_document(
    batches: BatchHouse, provider: FakeProvider, status: int, code: str, error_: type[Exception], said: str
) -> None:
    body = {"error": {"code": code}}
    for run in map(str, range(MAX_TRIES)):
        provider.spoil = lambda lines: [{**line, "response": {"status_code": status, "body": body}} for line in lines]
        with pytest.raises(error_, match=said):
            batches.annotate(run)
    provider.spoil = lambda lines: lines
    assert batches.annotate("r2").rows["labelled"] == DOCUMENTS


def test_a_document_that_fails_in_every_batch_has_its_tries_and_ends_no_step(
    batches: BatchHouse, provider: FakeProvider
) -> None:
    oh = {"status_code": 500, "body": {"error": {"code": "server_error"}}}
    bad = digest("text 3")
    provider.spoil = lambda lines: [{**line, "response": oh} if line["custom_id"] == bad else line for line in lines]
    # Alone in its batch from the second on: a text that was answered is asked about, live, to tell the two apart.
    assert [batches.annotate(run).rows["failed"] for run in map(str, range(MAX_TRIES))] == [1] * MAX_TRIES
    assert batches.annotate("after").rows["failed_for_good"] == 1
    assert len(provider.batches) == MAX_TRIES


def test_results_that_are_not_all_there_yet_are_waited_for(batches: BatchHouse, provider: FakeProvider) -> None:
    def count(method: str, path: str) -> None:
        for batch in provider.batches.values():
            batch["request_counts"] = {"total": DOCUMENTS, "completed": DOCUMENTS}

    provider.before, provider.spoil = count, lambda lines: lines[1:]
    with pytest.raises(TransientError, match="12 requests of batch batch_0 are answered, but .* 11 results"):
        batches.annotate()
    assert batches.rows() == []
    requests = [json.loads(line) for line in provider.files["file-0"].splitlines()]
    provider.files["file-1"] = jsonl([provider.result(request) for request in requests])
    assert batches.annotate().rows["labelled"] == DOCUMENTS
    assert provider.answered == ASKED_ONCE


def test_requests_that_no_batch_can_have_answered_are_sent_once_and_said(
    batches: BatchHouse, provider: FakeProvider
) -> None:
    refused = {"error": {"code": "unsupported_parameter", "param": "max_tokens"}}

    def spoil(lines: list[Line]) -> list[Line]:
        return [{**line, "response": {"status_code": 400, "body": refused}} for line in lines]

    provider.spoil = spoil
    with pytest.raises(ConfigError, match="LLAMBERT_SERVERS__FAKE__TOKEN_LIMIT=max_completion_tokens"):
        batches.annotate()
    assert {(row["status"], row["reason"]) for row in batches.rows()} == {
        ("failed", "given_up unsupported_parameter max_tokens")
    }
    provider.spoil = lambda lines: lines
    assert batches.annotate("r2").rows["labelled"] == DOCUMENTS


def test_results_that_cannot_be_read_are_told_with_the_way_out(
    batches: BatchHouse, provider: FakeProvider, tmp_path: Path
) -> None:
    provider.spoil = lambda lines: [*lines, {**lines[0], "custom_id": "row-7"}]
    with pytest.raises(DataError, match=r"batch batch_0: .*output.jsonl line 13: .*'row-7'.*`llambert batch read`"):
        batches.annotate()
    assert batches.rows() == []
    mended = tmp_path / "mended.jsonl"
    mended.write_bytes(b"".join(provider.files["file-1"].splitlines(keepends=True)[:-1]))
    assert batches.read(mended).rows["labelled"] == DOCUMENTS
    for note in Path(batches.lake.uri).glob("_batches/reviews/*.json"):
        note.unlink()
    assert batches.annotate("r2").rows["reused"] == DOCUMENTS
    assert provider.answered == ASKED_ONCE
