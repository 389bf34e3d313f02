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
from llambert_etl.llm.completions import Choice, Unknown, read_completion
from llambert_etl.llm.mentions import bare
from llambert_etl.llm.parsing import read_reply
from llambert_etl.llm.prompts import DOCUMENT, TURN_MARKS, Chat, Completion, Message, render, without_marks
from llambert_etl.schemas import AnnotationStatus
from llambert_etl.settings import Server

# The reason of an answer that is none of the known shapes: kept, since it may be paid, and not asked for again.
UNKNOWN = "unknown_answer"

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


class _Token(BaseModel):
    token: str
    logprob: float = Field(allow_inf_nan=False)


class _Position(_Token):
    top_logprobs: list[_Token]


class _Positions(BaseModel):
    content: list[_Position]


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

    def body(self, text: str, without: frozenset[str] = frozenset()) -> dict[str, JsonValue]:
        """Return the request about one document, `without` fields that the server has refused."""
        plain = without_marks(text, CONTROL)
        annotator, left_out = self.task.annotator, without | self.task.annotator.left_out
        turns = _without_system(self.prompt.messages) if "system" in left_out else self.prompt.messages
        body: dict[str, JsonValue] = {
            "model": annotator.model,
            "messages": [
                {"role": message.role, "content": message.content.replace(DOCUMENT, plain)} for message in turns
            ],
            self.server.token_limit: annotator.max_new_tokens,
        }
        if "temperature" not in left_out:
            body["temperature"] = 0
        if "seed" not in left_out:
            body["seed"] = annotator.seed
        if self.server.top_logprobs and "logprobs" not in left_out:
            body |= {"logprobs": True, "top_logprobs": self.server.top_logprobs}
        return body

    def optional(self) -> frozenset[str]:
        """Return the fields without which the answers mean the same; without `logprobs` they have no probabilities."""
        return frozenset({"seed"} if self.task.encoder.soft_labels else {"seed", "logprobs"})

    def tokens(self, text: str) -> int:
        return guess_tokens(self.prompt, text)

    def reply(self, text: str, content: bytes, without: frozenset[str] = frozenset()) -> Reply | None:
        """Return what a server answered about a document; None where it is no answer: HTML, or half a JSON."""
        found = read_completion(content)
        if found is None:
            return None
        usage = self._usage(text, found.usage)
        tokens, out = usage.prompt_tokens + usage.completion_tokens, usage.completion_tokens
        if isinstance(found, Unknown):
            return Reply(None, None, found.raw, AnnotationStatus.UNPARSED, UNKNOWN, tokens, out)
        who = found.answered_by
        if without:
            who = f"{who or 'no name'}, asked without {', '.join(sorted(without))}"
        replies = [self._read(choice, tokens, out) for choice in found.choices]
        return replace(_agreed(replies), answer_tokens=out, answered_by=who)

    def _read(self, choice: Choice, tokens: int, out: int) -> Reply:
        cut = choice.is_cut(at_limit=out >= self.task.annotator.max_new_tokens)
        reply = read_reply(self.task, choice.text, tokens, cut=cut)
        if reply.label is not None:
            return replace(reply, probabilities=_probabilities(choice.logprobs, reply.label, self.task.label_names))
        if choice.is_filtered:
            return replace(reply, reason="content_filter")
        return replace(reply, raw=choice.refused, reason="refusal") if choice.refused and not choice.text else reply

    def _usage(self, text: str, counted: JsonValue) -> _Usage:
        """Return what the answer counts as. Odd counts are replaced by a guess: asked again, it would be paid again."""
        try:
            return _Usage.model_validate(counted)
        except ValidationError:
            return _Usage(prompt_tokens=self.tokens(text), completion_tokens=self.task.annotator.max_new_tokens)


def _agreed(replies: Sequence[Reply]) -> Reply:
    """Return the first reply, or one without a label where the others say otherwise."""
    if len({reply.label for reply in replies}) == 1:
        return replies[0]
    raw = "\n".join(reply.raw for reply in replies)
    return Reply(None, None, raw, AnnotationStatus.UNPARSED, "choices_disagree", replies[0].tokens)


def _without_system(messages: Sequence[Message]) -> Sequence[Message]:
    """Return turns in which the first question begins with what the system's turn says, as Gemma's format has it."""
    system = [message.content for message in messages if message.role == "system"]
    first, *others = [message for message in messages if message.role != "system"]
    return [Message(first.role, "\n\n".join((*system, first.content))), *others]


def guess_tokens(prompt: Chat | Completion, text: str) -> int:
    """Guess how many tokens a question about a document has, from its characters."""
    shown = [prompt.content] if isinstance(prompt, Completion) else [message.content for message in prompt.messages]
    return (sum(map(len, shown)) + len(text)) // _CHARACTERS_PER_TOKEN


def failed(reason: str) -> Reply:
    """Return the reply about a document that the server did not answer."""
    return Reply(None, None, "", AnnotationStatus.FAILED, reason, 0)


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
