"""A paid LLM that costs nothing: an OpenAI-compatible server on loopback that counts its requests, and has faults."""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.fakes.server import Answer, FakeServer, Request, json_answer

KEY = "sk-tests-only"
SNAPSHOT, FINGERPRINT = "fake-1-0613", "fp_1"
# What its answers say that they cost.
PROMPT_TOKENS, ANSWER_TOKENS = 20, 2


def chat_answer(said: str | None, **changes: Any) -> dict[str, Any]:
    """Return the body of an answer as OpenAI, vLLM, TGI and llama.cpp write it."""
    choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop", "logprobs": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": SNAPSHOT,
        "system_fingerprint": FINGERPRINT,
        "choices": [{**choice, **changes}],
        "usage": {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": ANSWER_TOKENS,
            "total_tokens": PROMPT_TOKENS + ANSWER_TOKENS,
        },
    }


def error(
    status: int, code: str | None = None, *, message: str = "no", param: str | None = None, **headers: str
) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return (
        status,
        named,
        json.dumps({"error": {"message": message, "type": code, "code": code, "param": param}}).encode(),
    )


HTML = (200, {}, b"<html><body>502 Bad Gateway</body></html>")
HALF = (200, {}, json.dumps(chat_answer("positive")).encode()[:-40])


class FakeLlm(FakeServer):
    """Says positive about texts with an even number in them, negative about others.

    `fault(text, nth)` may return another answer to the nth time that a text is asked about; `asked` counts requests
    and `answered` paid answers, by the last user message.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fault: Callable[[str, int], Answer | None] = lambda text, nth: None
        self.say: Callable[[str], dict[str, Any]] = lambda text: chat_answer(by_number(text))
        self.asked, self.answered = Counter[str](), Counter[str]()
        self.bodies: list[dict[str, Any]] = []
        self.models: Answer = 200, {}, json.dumps({"object": "list", "data": [{"id": SNAPSHOT}]}).encode()
        self.at_once = self.most_at_once = 0
        self.pause = 0.0
        self.lock = threading.Lock()
        self.reached = threading.Condition(self.lock)
        self.url = f"{self.address}/v1"

    def wait_for(self, *, answers: int = 0, asked: int = 0) -> None:
        """Wait until so many answers are paid and so many requests have come."""
        with self.reached:
            there = self.reached.wait_for(
                lambda: self.answered.total() >= answers and self.asked.total() >= asked, timeout=60
            )
        assert there, "the server was not asked in time"

    def route(self, request: Request) -> Answer:
        if request.headers["Authorization"] != f"Bearer {KEY}":
            return error(401, "invalid_api_key")
        if (request.method, request.path) == ("POST", "/v1/chat/completions"):
            return self.chat(json.loads(request.body))
        if (request.method, request.path) == ("GET", "/v1/models"):
            return self.models
        return error(404, "not_found")

    def chat(self, body: dict[str, Any]) -> Answer:
        text = body["messages"][-1]["content"]
        with self.lock:
            self.bodies.append(body)
            self.asked[text] += 1
            nth = self.asked[text]
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.reached.notify_all()
        try:
            time.sleep(self.pause)
            answer = self.fault(text, nth)
            if answer is None:
                with self.reached:
                    self.answered[text] += 1
                    self.reached.notify_all()
                answer = json_answer(self.say(text))
            return answer
        finally:
            with self.lock:
                self.at_once -= 1


def by_number(text: str) -> str:
    found = re.search(r"\d+", text)
    assert found, text
    return "negative" if int(found.group()) % 2 else "positive"
