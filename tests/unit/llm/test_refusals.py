"""Servers that refuse a field of ours, in their many words: left out where it may be, named where not."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llambert_etl.errors import ConfigError
from llambert_etl.llm.refusals import refusal
from llambert_etl.schemas import AnnotationStatus
from tests.fakes.llm import FINGERPRINT, KEY, SNAPSHOT, FakeLlm, error
from tests.fakes.server import Answer
from tests.given.served import served, served_task

TEXTS = [f"text {number}" for number in range(6)]
CANARY = "the lighthouse keeper's daughter"


def body(status: int, value: Any) -> Answer:
    return status, {}, json.dumps(value).encode()


def extra(*place: Any) -> dict[str, Any]:
    return {"type": "extra_forbidden", "loc": ["body", *place], "msg": "Extra inputs are not permitted", "input": 1}


def says(message: str, status: int = 400) -> Answer:
    return body(status, {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400})


# As OpenAI, Mistral, FastAPI, vLLM, TGI and routers write it.
REFUSED = {
    "param": ("seed", error(400, "unsupported_parameter", param="seed")),
    "detail": ("seed", body(422, {"detail": [extra("seed")]})),
    "message of detail": ("seed", body(422, {"object": "error", "message": {"detail": [extra("seed")]}, "code": None})),
    "in words": ("seed", error(400, message="Unrecognized request argument supplied: seed")),
    "as text": ("seed", says("[{'type': 'extra_forbidden', 'loc': ('body', 'seed'), 'msg': 'Extra inputs'}]")),
    "a string": ("seed", body(422, {"error": "unknown field `seed`", "error_type": "validation"})),
    "403": ("logprobs", error(403, message="You are not allowed to request logprobs from this model")),
    "top_logprobs": ("logprobs", body(422, {"detail": [extra("top_logprobs")]})),
    "not enabled": ("logprobs", error(400, message="Logprobs is not enabled for models/m")),
}


def refusing(field: str, answer: Answer, llm: FakeLlm) -> Callable[[str, int], Answer | None]:
    """Refuse while the newest request has the field."""
    return lambda text, nth: answer if field in llm.bodies[-1] else None


@pytest.mark.parametrize(("field", "answer"), REFUSED.values(), ids=REFUSED)
def test_a_field_that_changes_no_answer_is_left_out_for_the_rest_of_the_run_and_told(
    llm: FakeLlm, tmp_path: Path, caplog: pytest.LogCaptureFixture, field: str, answer: Answer
) -> None:
    llm.fault = refusing(field, answer, llm)
    annotator = served(llm, tmp_path, concurrency=1)
    with caplog.at_level(logging.WARNING):
        replies = [*annotator.annotate(TEXTS[:4]), *annotator.annotate(TEXTS[4:])]
    assert {reply.status for reply in replies} == {AnnotationStatus.LABELLED}
    assert [field in sent for sent in llm.bodies] == [True, *[False] * 6]
    assert {reply.answered_by for reply in replies} == {f"{SNAPSHOT} {FINGERPRINT}, asked without {field}"}
    (told,) = [record.getMessage() for record in caplog.records if "does not take" in record.getMessage()]
    assert ("so there are no probabilities" in told) == (field == "logprobs")


def test_requests_under_way_as_a_field_is_refused_are_asked_again_without_it(llm: FakeLlm, tmp_path: Path) -> None:
    llm.pause = 0.05
    seed = error(400, "unsupported_parameter", param="seed")
    llm.fault = lambda text, nth: seed if nth == 1 else None
    replies = served(llm, tmp_path, concurrency=6).annotate(TEXTS)
    assert {reply.status for reply in replies} == {AnnotationStatus.LABELLED}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (error(400, "unsupported_value", param="messages[0].role"), "'system'.*write a template without a block"),
        (says("System role not supported"), "'system'.*annotator.leave_out: .system."),
        (says("Jinja Exception: System role not supported", status=500), "does not take 'system'"),
        (says("Conversation roles must alternate user/assistant/user/assistant/..."), "does not take 'system'"),
        (body(422, {"detail": [extra("messages", 0, "system")]}), "does not take 'system'"),
        (body(422, {"detail": [extra("temperature")]}), "does not take 'temperature'.*leave_out: .temperature."),
        (says("extra fields not permitted: max_completion_tokens"), "TOKEN_LIMIT=max_tokens"),
        (
            error(400, "unsupported_parameter", param="seed"),
            "does not take 'seed'",
        ),  # left out, and refused all the same
    ],
    ids=["openai", "gemma", "llama.cpp", "alternate", "detail", "temperature", "limit", "for ever"],
)
def test_a_field_that_means_something_ends_the_step_with_its_name_and_what_to_do(
    llm: FakeLlm, tmp_path: Path, answer: Answer, said: str
) -> None:
    llm.fault = lambda text, nth: answer
    with pytest.raises(ConfigError, match=said):
        served(llm, tmp_path, concurrency=1).annotate(TEXTS)
    assert llm.asked.total() <= 2


def test_probabilities_that_a_task_learns_from_are_not_left_out(llm: FakeLlm, tmp_path: Path) -> None:
    task = served_task()
    soft = task.model_copy(update={"encoder": task.encoder.model_copy(update={"soft_labels": True})})
    llm.fault = lambda text, nth: error(403, message="You are not allowed to request logprobs from this model")
    with pytest.raises(ConfigError, match="does not take 'logprobs' as sent .403.*TOP_LOGPROBS=0"):
        served(llm, tmp_path, soft, concurrency=1).annotate(TEXTS)


def test_where_all_are_refused_alike_the_step_ends_with_the_server_s_words_about_no_document(
    llm: FakeLlm, tmp_path: Path
) -> None:
    llm.fault = lambda text, nth: says(f"\x1b[31mno such   adapter: {text}", 422)
    with pytest.raises(ConfigError) as refused:
        served(llm, tmp_path).annotate([f"{CANARY} {number}" for number in range(6)])
    assert "refused all of 6 documents (http_422), and a plain text too: '[31mno such adapter: A text" in str(
        refused.value
    )
    assert CANARY not in str(refused.value)
    assert llm.asked.total() == 7


@pytest.mark.parametrize("echoed", ["An example of positive.", KEY], ids=["an example", "the key"])
def test_words_that_repeat_an_example_or_the_key_are_not_told(llm: FakeLlm, tmp_path: Path, echoed: str) -> None:
    llm.fault = lambda text, nth: says(f"bad: {echoed}", 422)
    with pytest.raises(ConfigError, match="a plain text too: ''; mend") as refused:
        served(llm, tmp_path).annotate(TEXTS)
    assert echoed not in str(refused.value)


def test_where_a_plain_text_is_taken_the_documents_are_to_blame(llm: FakeLlm, tmp_path: Path) -> None:
    llm.fault = lambda text, nth: error(400, message="too long") if text in TEXTS else None
    replies = served(llm, tmp_path).annotate(TEXTS)
    assert {(reply.status, reply.reason) for reply in replies} == {(AnnotationStatus.FAILED, "http_400")}
    assert llm.asked.total() == len(TEXTS) + 1


def test_a_field_s_name_in_a_document_is_no_refusal_of_it() -> None:
    text = "Where to buy seed and a system role"
    content = says(f"input too long: {text}")[2]
    assert refusal(400, content, "Where to buy") == "unsupported_parameter system"
    assert refusal(400, content, text) == refusal(400, content) == "http_400"


def test_what_a_task_leaves_out_is_not_sent(llm: FakeLlm, tmp_path: Path) -> None:
    task = served_task(leave_out=["seed", "logprobs", "temperature", "system"])
    served(llm, tmp_path, task).annotate(["text 2"])
    (sent,) = llm.bodies
    assert set(sent) == {"model", "messages", "max_tokens"}
    assert [message["role"] for message in sent["messages"]] == [*["user", "assistant"] * 2, "user"]
    assert sent["messages"][0]["content"] == "One of: positive, negative.\n\nAn example of positive."
