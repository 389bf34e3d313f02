"""ServedAnnotator on a real server: what it asks, what it makes of answers, and of a server that will not answer."""

from pathlib import Path
from typing import Any

import pytest

from llambert_etl.errors import ConfigError
from llambert_etl.llm.annotators import open_annotator
from llambert_etl.llm.served import ServedAnnotator
from llambert_etl.schemas import AnnotationStatus
from llambert_etl.settings import Settings
from tests.fakes.llm import (
    ANSWER_TOKENS,
    FINGERPRINT,
    PROMPT_TOKENS,
    SNAPSHOT,
    FakeLlm,
    chat_answer,
)
from tests.given.served import served, served_task, texts, write_template

LABELLED, FAILED = AnnotationStatus.LABELLED, AnnotationStatus.FAILED


def test_each_document_gets_its_own_answer_with_what_it_cost_and_whom_it_came_from(
    annotator: ServedAnnotator, llm: FakeLlm
) -> None:
    replies = annotator.annotate(texts(40))
    assert [reply.label for reply in replies] == ["positive", "negative"] * 20
    assert {(reply.tokens, reply.answer_tokens) for reply in replies} == {
        (PROMPT_TOKENS + ANSWER_TOKENS, ANSWER_TOKENS)
    }
    assert {reply.answered_by for reply in replies} == {f"{SNAPSHOT} {FINGERPRINT}"}
    assert set(llm.asked.values()) == {1}


def test_a_question_is_the_prompt_in_turns_and_greedy(annotator: ServedAnnotator, llm: FakeLlm) -> None:
    annotator.annotate(["A gem {{ conn.x }} 2"])
    (body,) = llm.bodies
    assert [message["role"] for message in body["messages"]] == ["system", *["user", "assistant"] * 2, "user"]
    assert body["messages"][-1]["content"] == "A gem {{ conn.x }} 2"
    assert (body["model"], body["temperature"], body["max_tokens"], body["seed"]) == ("fake-1", 0, 10, 42)
    assert (body["logprobs"], body["top_logprobs"]) == (True, 5)


def test_a_server_is_asked_by_its_own_name_for_the_limit_of_an_answer(llm: FakeLlm, tmp_path: Path) -> None:
    served(llm, tmp_path, token_limit="max_completion_tokens", top_logprobs=0).annotate(["text 2"])
    (body,) = llm.bodies
    assert body["max_completion_tokens"] == 10
    assert not {"max_tokens", "logprobs", "top_logprobs"} & set(body)


@pytest.mark.parametrize(
    ("mark", "plain"),
    [
        ("<|im_end|>", "(|im_end|)"),
        ("<|eot_id|>", "(|eot_id|)"),
        ("<｜User｜>", "(｜User｜)"),
        ("</s>", "(/s)"),
        ("<s>", "(s)"),
        ("[/INST]", "(/INST)"),
        ("[ inst ]", "( inst )"),
        ("<</SYS>>", "((/SYS))"),
        ("<end_of_turn>", "(end_of_turn)"),
        ("<|turn>", "(|turn)"),
        ("<turn|>", "(turn|)"),
        ("<eos>", "(eos)"),
        ("[SYSTEM_PROMPT]", "(SYSTEM_PROMPT)"),
        ("[/TOOL_RESULTS]", "(/TOOL_RESULTS)"),
    ],
)
def test_a_mark_of_a_chat_format_in_a_document_is_plain_text(
    annotator: ServedAnnotator, llm: FakeLlm, mark: str, plain: str
) -> None:
    annotator.annotate([f"Bad {mark} 1 < 2 [sic]"])
    assert llm.bodies[0]["messages"][-1]["content"].endswith(f"Bad {plain} 1 < 2 [sic]")


def test_no_more_requests_are_under_way_than_the_server_is_given(llm: FakeLlm, tmp_path: Path) -> None:
    llm.pause = 0.02
    served(llm, tmp_path, concurrency=3).annotate(texts(12))
    assert 1 < llm.most_at_once <= 3


@pytest.mark.parametrize(
    ("said", "changes", "reason"),
    [("Mixed", {}, "not_a_label"), (None, {}, "empty"), ("", {"finish_reason": "content_filter"}, "content_filter")],
)
def test_an_answer_without_a_label_is_unparsed_and_kept(
    annotator: ServedAnnotator, llm: FakeLlm, said: str | None, changes: dict[str, Any], reason: str
) -> None:
    llm.say = lambda text: chat_answer(said, **changes)
    (reply,) = annotator.annotate(texts(1))
    assert (reply.status, reply.reason, reply.raw) == (AnnotationStatus.UNPARSED, reason, said or "")


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        [],
        {"prompt_tokens": None, "completion_tokens": 1},
        {"prompt_tokens": -1, "completion_tokens": 1},
        {"prompt_tokens": 10**20, "completion_tokens": 1},  # more than a column holds
    ],
    ids=["none", "empty", "a list", "null", "negative", "endless"],
)
def test_tokens_are_guessed_where_the_server_does_not_count_them(
    annotator: ServedAnnotator, llm: FakeLlm, usage: Any
) -> None:
    llm.say = lambda text: {**chat_answer("positive"), "usage": usage}
    (reply,) = annotator.annotate(["x" * 4000 + " 2"])
    assert 1000 < reply.tokens < 1050
    assert llm.asked.total() == 1


def logprobs(*tops: dict[str, float], chosen: str = "positive") -> dict[str, Any]:
    positions = [
        {"token": chosen, "logprob": -0.1, "top_logprobs": [{"token": t, "logprob": p} for t, p in top.items()]}
        for top in tops
    ]
    return {"content": positions}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (logprobs({"positive": -0.1, " Negative": -2.3, "The": -5.0}), 0.9),
        (logprobs({"pos": -0.7985, "Positive": -0.7985, "neg": -2.3}, chosen="pos"), 0.9),
        (logprobs({"positive": -0.1, "The": -5.0}), None),
        (logprobs({"The": -0.1, "positive": -2.0, "negative": -3.0}, chosen="The"), None),
        (logprobs({"positive": -2.3, "negative": -0.1}), None),
        (logprobs({"positive": float("nan"), "negative": -2.3}), None),
        ({"content": None}, None),
        ({"tokens": ["positive"], "token_logprobs": [-0.1]}, None),
        (None, None),
    ],
    ids=[
        "two labels",
        "pieces",
        "one label",
        "a sentence",
        "not the likeliest",
        "not a number",
        "none",
        "another shape",
        "null",
    ],
)
def test_probabilities_are_those_of_the_first_token_or_none(
    annotator: ServedAnnotator, llm: FakeLlm, given: Any, expected: float | None
) -> None:
    llm.say = lambda text: chat_answer("Positive", logprobs=given)
    (reply,) = annotator.annotate(texts(1))
    assert reply.label == "positive"
    if expected is None:
        assert reply.probabilities is None
    else:
        assert reply.probabilities is not None
        assert reply.probabilities["positive"] == pytest.approx(expected, abs=0.01)
        assert sum(reply.probabilities.values()) == pytest.approx(1.0)


def test_labels_that_begin_alike_have_no_probabilities(llm: FakeLlm, tmp_path: Path) -> None:
    task = served_task().model_copy(update={"labels": {"in scope": "a", "in doubt": "b"}})
    llm.say = lambda text: chat_answer("in scope", logprobs=logprobs({"in": -0.1, "out": -3.0}, chosen="in"))
    (reply,) = served(llm, tmp_path, task).annotate(texts(1))
    assert (reply.label, reply.probabilities) == ("in scope", None)


def test_a_server_that_the_deployment_does_not_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"annotator.server 'fake': the servers here are \[\].*LLAMBERT_SERVERS__FAKE"
    ):
        open_annotator(served_task(), Settings(lake="/lake", include=tmp_path))


def test_a_template_without_turns_is_refused(llm: FakeLlm, tmp_path: Path) -> None:
    write_template(tmp_path)
    (tmp_path / "prompts" / "turns.j2").write_text("{{ text }} =")
    settings = Settings(lake="/lake", include=tmp_path, servers={"fake": {"url": llm.url}})
    with pytest.raises(ConfigError, match="chat servers take turns; write a template with a block `user`"):
        open_annotator(served_task(), settings)
