"""What servers answer with, over real HTTP: cut off, in parts, several at once, or in a shape that nobody knows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llambert_etl.llm import HalfRefusedError
from llambert_etl.llm.batch_files import read_results, request_line
from llambert_etl.llm.served import ServedAnnotator
from llambert_etl.schemas import AnnotationStatus
from tests.fakes.llm import ANSWER_TOKENS, PROMPT_TOKENS, FakeLlm, chat_answer
from tests.fakes.server import json_answer
from tests.given.served import served

UNPARSED = AnnotationStatus.UNPARSED
HEDGED = "It has positive moments, but overall the film is"
CANARY = "the lighthouse keeper"


@pytest.fixture
def annotator(llm: FakeLlm, tmp_path: Path) -> ServedAnnotator:
    return served(llm, tmp_path)


@pytest.fixture(params=["live", "batch file"])
def answer(
    request: pytest.FixtureRequest, annotator: ServedAnnotator, llm: FakeLlm, tmp_path: Path
) -> Callable[[Any], tuple[str | None, str | None]]:
    """Return what a body becomes, whichever way it comes: a label, or the reason why there is none."""

    def ask(body: Any) -> tuple[str | None, str | None]:
        if request.param == "live":
            llm.fault = lambda text, nth: json_answer(body)
            (reply,) = annotator.annotate(["text 2"])
            assert llm.asked.total() == 1
        else:
            asked = json.loads(request_line(annotator.questions, "hash", "text 2"))
            result = {"custom_id": asked["custom_id"], "response": {"status_code": 200, "body": body}, "error": None}
            (tmp_path / "results.jsonl").write_text(json.dumps(result))
            reply = read_results([tmp_path / "results.jsonl"], annotator.questions)["hash"].reply
        return reply.label, reply.reason

    return ask


Ask = Callable[[Any], tuple[str | None, str | None]]


@pytest.mark.parametrize(
    "ending",
    [
        {"finish_reason": "length"},
        {"finish_reason": "max_tokens"},
        {"finish_reason": "limit"},
        {"finish_reason": "model_length"},
        {"finish_reason": "content_filter"},
        {"finish_reason": "error"},
        {"finish_reason": {"type": "length", "length": 10}},
        {"finish_reason": "stop", "truncated": True},
    ],
    ids=lambda ending: "-".join(map(str, ending.values())),
)
def test_an_answer_that_was_cut_off_counts_only_where_it_begins_with_its_label(
    answer: Ask, ending: dict[str, Any]
) -> None:
    filtered = ending["finish_reason"] == "content_filter"
    assert answer(chat_answer(HEDGED, **ending)) == (None, "content_filter" if filtered else "cut_off")


@pytest.mark.parametrize("said", ["positive", "Positive. The reviewer"])
def test_an_answer_that_begins_with_its_label_may_be_cut_off(answer: Ask, said: str) -> None:
    assert answer(chat_answer(said, finish_reason="length")) == ("positive", None)


@pytest.mark.parametrize("ending", ["stop", "eos_token", "end_turn", "COMPLETE"])
def test_an_answer_that_is_whole_is_read_as_a_whole(answer: Ask, ending: str) -> None:
    assert answer(chat_answer("The film is positive", finish_reason=ending)) == ("positive", None)


@pytest.mark.parametrize(("tokens", "label"), [(10, None), (9, "positive")])
def test_a_server_that_says_not_why_it_ended_has_cut_off_what_used_up_its_limit(
    answer: Ask, tokens: int, label: str | None
) -> None:
    body = chat_answer("The film is positive", finish_reason=None)
    assert answer({**body, "usage": {"prompt_tokens": 1, "completion_tokens": tokens}})[0] == label


def choices(*said: tuple[int, str, str]) -> dict[str, Any]:
    found = [
        {"index": index, "message": {"content": text}, "finish_reason": ending, "logprobs": None}
        for index, text, ending in said
    ]
    return {**chat_answer(None), "choices": found}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (choices((0, "positive", "stop"), (1, "Positive.", "stop")), ("positive", None)),
        (choices((0, "positive", "stop"), (1, "negative", "stop")), (None, "choices_disagree")),
        (choices((0, "positive", "stop"), (1, HEDGED, "length")), (None, "choices_disagree")),
        (choices((1, "Mixed", "stop"), (0, "", "stop")), (None, "empty")),
    ],
    ids=["agreed", "two labels", "one of them cut off", "by number"],
)
def test_several_choices_count_where_they_agree(
    answer: Ask, body: dict[str, Any], expected: tuple[str | None, str | None]
) -> None:
    assert answer(body) == expected


THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "Or is it negative?"}]}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([{"type": "text", "text": "positive"}], ("positive", None)),
        ([THINKING, {"type": "text", "text": "positive"}], ("positive", None)),
        ([{"type": "text", "text": "pos"}, {"type": "reference", "reference_ids": [1]}, "itive"], ("positive", None)),
        ([{"type": "output_text", "text": "positive"}], ("positive", None)),
        ([{"text": "positive"}], ("positive", None)),
        ([THINKING], (None, "empty")),
        ([], (None, "empty")),
        ([{"type": "refusal", "refusal": "I cannot call it positive."}], (None, "refusal")),
        ([{"type": "text", "text": "not positive"}], (None, "ambiguous")),
    ],
    ids=["text", "thoughts", "references", "output", "no type", "thoughts alone", "none", "refusal", "negated"],
)
def test_of_an_answer_in_parts_the_texts_count(
    answer: Ask, parts: list[Any], expected: tuple[str | None, str | None]
) -> None:
    body = chat_answer(None)
    body["choices"][0]["message"]["content"] = parts
    assert answer(body) == expected


def test_a_refusal_beside_no_text_is_kept_and_is_no_answer(annotator: ServedAnnotator, llm: FakeLlm) -> None:
    body = chat_answer(None)
    body["choices"][0]["message"]["refusal"] = "I will not say positive."
    llm.say = lambda text: body
    (reply,) = annotator.annotate(["text 2"])
    assert (reply.status, reply.reason, reply.raw) == (UNPARSED, "refusal", "I will not say positive.")


def odd(**message: Any) -> dict[str, Any]:
    return {**chat_answer(None), "choices": [{"index": 0, "message": message}]}


ODD = {
    "no choices": {**chat_answer(None), "choices": []},
    "another field": {"response": "positive", "done": True},
    "a number": odd(content=1),
    "an object": odd(content={"text": "positive"}),
    "odd parts": odd(content=[{"kind": "text", "value": "positive"}]),
    "a text that is none": odd(content=[{"type": "text", "text": 1}]),
    "a list": ["positive"],
    "a word": "positive",
    "no message": {**chat_answer(None), "choices": [{"index": 0, "text": "positive"}]},
}


@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
def test_an_answer_of_no_known_shape_is_kept_and_never_asked_for_again(
    annotator: ServedAnnotator, llm: FakeLlm, body: Any
) -> None:
    llm.fault = lambda text, nth: json_answer(body) if text == "text 2" else None
    replies = annotator.annotate(["text 2", "text 4"])
    assert [(reply.status, reply.reason) for reply in replies] == [
        (UNPARSED, "unknown_answer"),
        (AnnotationStatus.LABELLED, None),
    ]
    assert json.loads(replies[0].raw) == body
    assert replies[0].tokens > PROMPT_TOKENS if isinstance(body, dict) and "usage" in body else replies[0].tokens > 0
    assert set(llm.asked.values()) == {1}


def test_an_answer_of_no_known_shape_is_kept_no_longer_than_shows_what_it_is(
    annotator: ServedAnnotator, llm: FakeLlm
) -> None:
    llm.fault = lambda text, nth: json_answer({"response": "positive " * 10_000})
    assert len(annotator.annotate(["text 2"])[0].raw) == 2000


def test_a_server_of_no_known_shape_is_given_up_with_the_shape_and_without_the_content(
    llm: FakeLlm, tmp_path: Path
) -> None:
    llm.fault = lambda text, nth: json_answer({"response": CANARY, "done": True, CANARY: 1})
    with pytest.raises(HalfRefusedError, match=r"\(an object of done, response; choices: missing\)") as refused:
        served(llm, tmp_path, concurrency=4).annotate([f"text {number}" for number in range(16)])
    assert llm.asked.total() <= 8 + 3
    assert CANARY not in str(refused.value)
    kept = [reply for reply in refused.value.replies if reply.status == UNPARSED]
    assert len(kept) == llm.asked.total()


def test_half_a_character_at_the_end_of_an_answer_is_no_reason_to_pay_again(
    annotator: ServedAnnotator, llm: FakeLlm
) -> None:
    surrogate = json.dumps(chat_answer("positive. \ud83d")).encode()
    byte = json.dumps(chat_answer("positive. @")).encode().replace(b"@", b"\xf0\x9f")
    bodies = {"text 2": surrogate, "text 4": byte}
    llm.fault = lambda text, nth: (200, {}, bodies[text])
    replies = annotator.annotate(list(bodies))
    assert [reply.label for reply in replies] == ["positive", "positive"]
    assert [reply.raw.encode() for reply in replies] == [b"positive. ?", "positive. \ufffd".encode()]
    assert set(llm.asked.values()) == {1}


@pytest.mark.parametrize(
    ("code", "status", "reason", "asked"),
    [(429, AnnotationStatus.LABELLED, None, 2), (400, AnnotationStatus.FAILED, "http_400", 1)],
    ids=["busy", "refused"],
)
def test_an_error_under_a_good_status_is_the_error(
    annotator: ServedAnnotator, llm: FakeLlm, code: int, status: AnnotationStatus, reason: str | None, asked: int
) -> None:
    said = json_answer({"error": {"code": code, "message": "no"}, "user_id": "u"})
    llm.fault = lambda text, nth: said if text == "text 2" and nth == 1 else None
    replies = annotator.annotate(["text 2", "text 4"])
    assert [(reply.status, reply.reason) for reply in replies] == [(status, reason), (AnnotationStatus.LABELLED, None)]
    assert llm.asked["text 2"] == asked


def test_whom_a_server_says_it_is_is_told_in_one_short_line(annotator: ServedAnnotator, llm: FakeLlm) -> None:
    llm.say = lambda text: {**chat_answer("positive"), "model": "\x1b[1mm\n" + "x" * 1000, "system_fingerprint": 7}
    assert annotator.annotate(["text 2"])[0].answered_by == "[1mm" + "x" * 96


def test_a_thought_beside_the_answer_and_one_in_it_are_not_read(annotator: ServedAnnotator, llm: FakeLlm) -> None:
    body = chat_answer("negative, no.</think>\n\nPositive.")
    body["choices"][0]["message"] |= {"reasoning_content": "negative", "reasoning": "negative"}
    llm.say = lambda text: body
    (reply,) = annotator.annotate(["text 2"])
    assert (reply.label, reply.answer_tokens) == ("positive", ANSWER_TOKENS)
