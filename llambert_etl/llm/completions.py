"""What an answer of `/chat/completions` says, in the shapes in which the servers of this field write it."""

import json
import re
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

# How servers call the end of an answer that is whole. Any other word may mean that it was cut off.
_WHOLE = {"stop", "stop_token", "stop_sequence", "eos", "eos_token", "end", "end_turn", "complete", "completed"}
_FILTERED = {"content_filter", "safety", "blocklist", "prohibited_content", "recitation", "refusal"}
_TEXT = ("text", "output_text")
# Of an answer that is not understood: enough to see what it is.
_KEPT_CHARACTERS, _NAME_CHARACTERS = 2000, 100


class _Message(BaseModel):
    content: str | list[JsonValue] | None = None
    refusal: JsonValue = None


class _Choice(BaseModel):
    message: _Message
    index: JsonValue = None
    finish_reason: JsonValue = None
    truncated: JsonValue = None  # llama.cpp
    logprobs: JsonValue = None


class _Answer(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    choices: list[_Choice] = Field(min_length=1)
    usage: JsonValue = None
    truncated: JsonValue = None
    model: JsonValue = None
    system_fingerprint: JsonValue = None


@dataclass(frozen=True)
class Choice:
    """One of the answers to a question. `refused` is what the model said in place of one; `ends` why it ends there."""

    text: str
    refused: str
    ends: str | None
    truncated: bool
    logprobs: JsonValue

    @property
    def is_filtered(self) -> bool:
        return self.ends in _FILTERED

    def is_cut(self, *, at_limit: bool) -> bool:
        """Tell whether more was to come; a server that does not say why it ended has cut an answer `at_limit`."""
        return self.truncated or (at_limit if self.ends is None else self.ends not in _WHOLE)


@dataclass(frozen=True)
class Known:
    """An answer that is understood; its choices are in the order of their numbers."""

    choices: list[Choice]
    usage: JsonValue
    answered_by: str | None


@dataclass(frozen=True)
class Unknown:
    """An answer, and so one that is paid, but of no shape that is known. `shape` names fields and kinds, no content."""

    raw: str
    usage: JsonValue
    shape: str


def read_completion(content: bytes) -> Known | Unknown | None:
    """Return what a server answered; None where it is no answer: HTML, half a JSON, or one with nothing in it."""
    found = read_json(content)
    if not found:
        return None
    try:
        answer = _Answer.model_validate(found)
        choices = [_choice(choice, answer) for choice in sorted(answer.choices, key=_place)]
    except (ValidationError, TypeError) as error:
        raw = sound(content[: 4 * _KEPT_CHARACTERS].decode("utf-8", "replace"))[:_KEPT_CHARACTERS]
        return Unknown(raw, found.get("usage") if isinstance(found, dict) else None, _shape(found, error))
    who = " ".join(filter(None, (_name(answer.model), _name(answer.system_fingerprint))))
    return Known(choices, answer.usage, who or None)


def read_json(content: bytes) -> JsonValue:
    """Return a body's value, or None. Half a character, as a cut answer may end in, makes no other of it."""
    try:
        found: JsonValue = json.loads(content.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return None
    return found


def sound(text: str) -> str:
    """Return a text without halves of characters, which no table takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _name(said: JsonValue) -> str:
    """Return what a server calls itself, in one short line: it goes into manifests."""
    return "".join(filter(str.isprintable, said))[:_NAME_CHARACTERS] if isinstance(said, str) else ""


def _place(choice: _Choice) -> int:
    return choice.index if isinstance(choice.index, int) else 0


def _choice(choice: _Choice, answer: _Answer) -> Choice:
    message, ends = choice.message, choice.finish_reason
    if isinstance(ends, dict):  # SGLang's own form
        ends = ends.get("type")
    text, refused = _parts(message.content if isinstance(message.content, list) else [message.content or ""])
    if isinstance(message.refusal, str):
        refused = refused or message.refusal
    truncated = choice.truncated is True or answer.truncated is True
    return Choice(sound(text), sound(refused), None if ends is None else str(ends).lower(), truncated, choice.logprobs)


def _parts(parts: list[JsonValue]) -> tuple[str, str]:
    """Return the text of a message's parts, and what it refuses with. Thoughts and references are no answer."""
    texts, refusals = [], []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
        elif not isinstance(part, dict) or not ("type" in part or "text" in part):
            raise TypeError("a part of a message that is neither a text nor of a named type")
        elif part.get("type", _TEXT[0]) in _TEXT:
            texts.append(_string(part.get("text")))
        elif part.get("type") == "refusal":
            refusals.append(_string(part.get("refusal")))
    return "".join(texts), "".join(refusals)


def _string(value: JsonValue) -> str:
    if not isinstance(value, str):
        raise TypeError("a text that is none")
    return value


def _shape(found: JsonValue, error: ValidationError | TypeError) -> str:
    """Say what an answer is, and where it differs from what was expected, without anything that it says."""
    if isinstance(found, dict):
        names = [name for name in sorted(found) if re.fullmatch(r"\w{1,30}", name, re.ASCII)]
        kind = f"an object of {', '.join(names[:8]) or 'odd names'}"
    else:
        kind = f"a {type(found).__name__}"
    if isinstance(error, TypeError):
        return f"{kind}; choices.message.content: {error}"
    fault = error.errors(include_url=False, include_input=False)[0]
    return f"{kind}; {'.'.join(str(part) for part in fault['loc'][:5])}: {fault['type']}"
