"""What an OpenAI-compatible chat server is sent about one document, and what its answer means."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, Field, JsonValue, ValidationError

from llambert_etl.config import LabellingTask
from llambert_etl.errors import ConfigError
from llambert_etl.llm import Reply
from llambert_etl.llm.mentions import bare
from llambert_etl.llm.parsing import read_reply
from llambert_etl.llm.prompts import DOCUMENT, TURN_MARKS, Chat, Completion, render, without_marks
from llambert_etl.schemas import AnnotationStatus
from llambert_etl.settings import Server

# Codes for a field that the server does not take, or not with this value, whatever the document.
UNSUPPORTED = ("unsupported_parameter", "unsupported_value")

# The server puts documents into a chat format that is not known here: nothing in them may look like a mark of one.
CONTROL = re.compile(
    r"<[|｜][^<>|｜\s]{1,40}[|｜]?>|<[^<>|｜\s]{1,40}[|｜]>|</?(?:s|bos|eos)>|</?(?:start|end)_of_turn>"
    rf"|\[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]|{TURN_MARKS.pattern}",
    re.IGNORECASE,
)
# English text has about four characters a token; other languages have fewer, so a forecast for them is too low.
_CHARACTERS_PER_TOKEN = 4
# Far beyond any model; what a lake's column holds, and so does the sum of many.
_MAX_TOKENS = 1_000_000_000


class _Usage(BaseModel):
    prompt_tokens: int = Field(ge=0, le=_MAX_TOKENS)
    completion_tokens: int = Field(ge=0, le=_MAX_TOKENS)


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None
    logprobs: JsonValue = None


class _Answer(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: JsonValue = None
    model: str | None = None
    system_fingerprint: str | None = None


class _Token(BaseModel):
    token: str
    logprob: float = Field(allow_inf_nan=False)


class _Position(_Token):
    top_logprobs: list[_Token]


class _Positions(BaseModel):
    content: list[_Position]


class _Fault(BaseModel):
    code: JsonValue = None
    type: JsonValue = None
    param: JsonValue = None


class _Refusal(BaseModel):
    error: _Fault


@dataclass(frozen=True)
class Questions:
    """A task's prompt as requests to `/chat/completions`."""

    task: LabellingTask
    prompt: Chat
    server: Server

    @classmethod
    def load(cls, task: LabellingTask, include: Path, server: Server) -> "Questions":
        """Render the task's prompt. Raise ConfigError for a template that is not made of turns."""
        prompt = render(task, include)
        if not isinstance(prompt, Chat):
            raise ConfigError(
                f"annotator.server: {task.prompt.template} is one text to go on with, and chat servers take turns; "
                "write a template with a block `user`"
            )
        return cls(task, prompt, server)

    def body(self, text: str) -> dict[str, JsonValue]:
        """Return the request about one document."""
        plain = without_marks(text, CONTROL)
        annotator = self.task.annotator
        body: dict[str, JsonValue] = {
            "model": annotator.model,
            "messages": [
                {"role": message.role, "content": message.content.replace(DOCUMENT, plain)}
                for message in self.prompt.messages
            ],
            self.server.token_limit: annotator.max_new_tokens,
            "temperature": 0,
            "seed": annotator.seed,
        }
        if self.server.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": self.server.top_logprobs}
        return body

    def tokens(self, text: str) -> int:
        return guess_tokens(self.prompt, text)

    def reply(self, text: str, content: bytes) -> Reply | None:
        """Return what a server answered about a document; None where it is no answer: HTML, or half a JSON."""
        try:
            answer = _Answer.model_validate_json(content)
        except ValidationError:
            return None
        said = answer.choices[0]
        usage = self._usage(text, answer.usage)
        reply = replace(
            read_reply(self.task, said.message.content or "", usage.prompt_tokens + usage.completion_tokens),
            answer_tokens=usage.completion_tokens,
            answered_by=" ".join(filter(None, (answer.model, answer.system_fingerprint))) or None,
        )
        if reply.label is None:
            return replace(reply, reason="content_filter") if said.finish_reason == "content_filter" else reply
        return replace(reply, probabilities=_probabilities(said.logprobs, reply.label, self.task.label_names))

    def _usage(self, text: str, counted: JsonValue) -> _Usage:
        """Return what the answer counts as. Odd counts are replaced by a guess: asked again, it would be paid again."""
        try:
            return _Usage.model_validate(counted)
        except ValidationError:
            return _Usage(prompt_tokens=self.tokens(text), completion_tokens=self.task.annotator.max_new_tokens)


def guess_tokens(prompt: Chat | Completion, text: str) -> int:
    """Guess how many tokens a question about a document has, from its characters."""
    shown = [prompt.content] if isinstance(prompt, Completion) else [message.content for message in prompt.messages]
    return (sum(map(len, shown)) + len(text)) // _CHARACTERS_PER_TOKEN


def failed(reason: str) -> Reply:
    """Return the reply about a document that the server did not answer."""
    return Reply(None, None, "", AnnotationStatus.FAILED, reason, 0)


def refusal(status: int, content: bytes) -> str:
    """Return the code that a server gives for refusing a request, such as `context_length_exceeded`.

    Where it does not take a field, that is named too: `unsupported_parameter max_tokens`. Never its message, which may
    repeat the document.
    """
    try:
        fault = _Refusal.model_validate_json(content).error
    except ValidationError:
        return f"http_{status}"
    named = [name for name in (fault.code, fault.type) if _is_name(name)]
    code = str(named[0]) if named else f"http_{status}"
    return f"{code} {fault.param}" if code in UNSUPPORTED and _is_name(fault.param) else code


def _is_name(value: JsonValue) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\w{1,64}", value) is not None


def _probabilities(logprobs: JsonValue, label: str, labels: Sequence[str]) -> dict[str, float] | None:
    """Return what the first token of the answer says of each label, or None where it does not tell.

    The answer must begin with its label, each label with a token of its own, and all of them must be among the
    likeliest that the server lists.
    """
    try:
        positions = _Positions.model_validate(logprobs).content
    except ValidationError:
        return None
    first = next((position for position in positions if bare(position.token)), None)
    if first is None or not label.casefold().startswith(bare(first.token)):
        return None
    found = dict.fromkeys(labels, 0.0)
    for token in first.top_logprobs:
        begun = bare(token.token)
        begins = [name for name in labels if begun and name.casefold().startswith(begun)]
        if len(begins) > 1:
            return None
        for name in begins:
            found[name] += math.exp(min(token.logprob, 0.0))
    total = sum(found.values())
    if min(found.values()) <= 0.0 or max(found, key=lambda name: found[name]) != label:
        return None
    return {name: probability / total for name, probability in found.items()}
