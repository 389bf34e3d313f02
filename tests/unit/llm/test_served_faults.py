"""ServedAnnotator and a server that fails, hangs or refuses: what is tried again, and what is given up."""

import datetime
import email.utils
import gzip
import json
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from llambert_etl.errors import ConfigError, TransientError
from llambert_etl.llm import HalfAnsweredError, HalfRefusedError
from llambert_etl.llm.served import ServedAnnotator
from llambert_etl.llm.server import ping
from llambert_etl.schemas import AnnotationStatus
from tests.fakes.llm import (
    HALF,
    HTML,
    KEY,
    FakeLlm,
    chat_answer,
    error,
)
from tests.fakes.server import Answer, LoopbackServer
from tests.given.served import served, server, texts

LABELLED, FAILED = AnnotationStatus.LABELLED, AnnotationStatus.FAILED


def in_seconds(seconds: float) -> str:
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    return email.utils.format_datetime(moment, usegmt=True)


@pytest.mark.parametrize(
    "answer",
    [
        error(429),
        error(429, Retry_After="0"),
        error(429, Retry_After="nan"),
        error(429, Retry_After=f"1 Jan {10**20} 00:00:00"),
        error(500),
        error(503),
        HTML,
        HALF,
        (200, {}, b"{}"),
        (200, {}, json.dumps(chat_answer("positive" + " " * 5_000_000)).encode()),
        (200, {"Content-Encoding": "gzip"}, gzip.compress(json.dumps(chat_answer("positive")).encode())),
    ],
    ids=[
        "429",
        "429 now",
        "429 nonsense",
        "429 in a far year",
        "500",
        "503",
        "html",
        "half",
        "no choices",
        "endless",
        "packed",
    ],
)
def test_a_fault_that_passes_is_tried_again_for_its_document_alone(
    annotator: ServedAnnotator, llm: FakeLlm, answer: Answer
) -> None:
    llm.fault = lambda text, nth: answer if text == "text 1" and nth == 1 else None
    assert [reply.status for reply in annotator.annotate(texts(4))] == [LABELLED] * 4
    assert llm.asked == {"text 0": 1, "text 1": 2, "text 2": 1, "text 3": 1}


@pytest.mark.parametrize("after", [lambda: "1.2", lambda: in_seconds(2.5)], ids=["seconds", "date"])
def test_retry_after_is_obeyed(llm: FakeLlm, tmp_path: Path, after: Any) -> None:
    llm.fault = lambda text, nth: error(429, Retry_After=after()) if nth == 1 else None
    started = time.monotonic()
    assert served(llm, tmp_path, patience_seconds=20).annotate(texts(1))[0].label == "positive"
    assert time.monotonic() - started >= 1.0


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (error(429), "http_429"),
        (error(429, Retry_After="86400"), "http_429"),
        (HTML, "unreadable"),
        (HALF, "unreadable"),
    ],
    ids=["429", "429 for a day", "html", "half"],
)
def test_a_server_that_never_answers_is_given_up_within_our_patience(
    llm: FakeLlm, tmp_path: Path, answer: Answer, seen: str
) -> None:
    llm.fault = lambda text, nth: answer
    started = time.monotonic()
    with pytest.raises(TransientError, match=f"server 'fake': no answer about 30 of 30 documents \\({seen}\\)"):
        served(llm, tmp_path, concurrency=3).annotate(texts(30))
    assert time.monotonic() - started < 5.0  # and not 10 times our patience


def test_a_server_that_is_not_there_is_transient(tmp_path: Path) -> None:
    with FakeLlm() as gone:
        pass
    with pytest.raises(TransientError, match="unreachable"):
        served(gone, tmp_path).annotate(texts(2))


def test_a_server_that_hangs_is_given_up(llm: FakeLlm, tmp_path: Path) -> None:
    llm.pause = 5.0
    with pytest.raises(TransientError, match="too_slow"):
        served(llm, tmp_path, timeout_seconds=0.1).annotate(texts(2))


class _Dripping(BaseHTTPRequestHandler):
    """Sends a byte now and then, for minutes."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "10000")
        self.end_headers()
        for _ in range(10_000):
            self.wfile.write(b" ")
            time.sleep(0.02)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_server_that_answers_byte_by_byte_is_given_up() -> None:
    with LoopbackServer(("127.0.0.1", 0), _Dripping) as dripping:
        threading.Thread(target=dripping.serve_forever, args=(0.01,), daemon=True).start()
        started = time.monotonic()
        with pytest.raises(TransientError, match="server 'fake': ReadTimeout"):
            ping("fake", server(f"http://127.0.0.1:{dripping.server_port}/v1", timeout_seconds=0.3))
        assert time.monotonic() - started < 5.0
        dripping.shutdown()


def test_what_was_answered_before_the_server_went_down_is_handed_over_for_it_is_paid(
    llm: FakeLlm, tmp_path: Path
) -> None:
    llm.fault = lambda text, nth: error(503) if llm.answered.total() >= 3 else None
    with pytest.raises(HalfAnsweredError, match=r"no answer about 5 of 8 documents \(http_503\)") as down:
        served(llm, tmp_path, concurrency=1).annotate(texts(8))
    assert [reply.status for reply in down.value.replies] == [LABELLED] * 3 + [FAILED] * 5


def test_a_document_that_a_server_always_fails_on_fails_alone(annotator: ServedAnnotator, llm: FakeLlm) -> None:
    llm.fault = lambda text, nth: error(503) if text in ("text 2", "text 3") else None
    replies = annotator.annotate(texts(4))
    assert [(reply.status, reply.reason) for reply in replies] == [(LABELLED, None)] * 2 + [(FAILED, "http_503")] * 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            error(401, "invalid_api_key"),
            r"refuses the key \(401, invalid_api_key\); mend LLAMBERT_SERVERS__FAKE__API_KEY",
        ),
        (error(403), "refuses the key"),
        (error(404, "model_not_found"), "no such address or model there"),
        (error(302, Location="http://169.254.169.254/latest"), "redirects are not followed"),
        (error(429, "insufficient_quota"), "the account has no credit left"),
        (error(400, "unsupported_parameter", param="max_tokens"), "set .*FAKE__TOKEN_LIMIT=max_completion_tokens"),
        (error(400, "unsupported_value", param="temperature"), "not take 'temperature' .*; name a model that does"),
    ],
    ids=["401", "403", "404", "redirect", "no credit", "max_tokens", "temperature"],
)
def test_what_no_retry_mends_is_said_at_once(
    annotator: ServedAnnotator, llm: FakeLlm, answer: Answer, said: str
) -> None:
    llm.fault = lambda text, nth: answer
    with pytest.raises(ConfigError, match=said) as refused:
        annotator.annotate(texts(1))
    assert llm.asked.total() == 1
    assert KEY not in str(refused.value)


def test_a_document_that_waits_to_be_asked_again_is_given_up_when_the_server_refuses_us(
    llm: FakeLlm, tmp_path: Path
) -> None:
    llm.fault = lambda text, nth: {"text 0": error(429, Retry_After="60"), "text 2": error(401)}.get(text)
    started = time.monotonic()
    with pytest.raises(HalfRefusedError, match="refuses the key") as refused:
        served(llm, tmp_path, concurrency=2, patience_seconds=90).annotate(texts(8))
    assert time.monotonic() - started < 20.0
    assert [reply.reason for reply in refused.value.replies] == ["given_up", None, "http_401", *["given_up"] * 5]
    assert llm.asked.total() == 3


def test_a_document_that_is_refused_fails_alone_and_its_text_stays_out_of_the_reason(
    annotator: ServedAnnotator, llm: FakeLlm
) -> None:
    too_long = error(400, "context_length_exceeded", param="max_tokens")
    refusals = {"text 1": too_long, "text 2": error(422, "bad text 2", message="text 2")}
    llm.fault = lambda text, nth: refusals.get(text)
    replies = annotator.annotate(texts(4))
    assert [reply.status for reply in replies] == [LABELLED, FAILED, FAILED, LABELLED]
    assert [reply.reason for reply in replies] == [None, "context_length_exceeded", "http_422", None]
    assert llm.asked.total() == 4


def test_a_server_that_refuses_a_whole_batch_does_not_take_what_it_is_asked(llm: FakeLlm, tmp_path: Path) -> None:
    llm.fault = lambda text, nth: error(400, "unsupported_parameter")
    annotator = served(llm, tmp_path, concurrency=1)
    with pytest.raises(ConfigError, match=r"refused all of 4 documents \(unsupported_parameter\)"):
        annotator.annotate(texts(annotator.batch_size))
