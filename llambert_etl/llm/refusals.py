"""Why a server refuses a request, and which field of it, from any of the shapes in which servers say so."""

import re
from collections.abc import Iterator

from pydantic import BaseModel, JsonValue, ValidationError

from llambert_etl.llm.completions import read_json

# Codes for a field that the server does not take, or not with this value, whatever the document.
UNSUPPORTED = ("unsupported_parameter", "unsupported_value")
# Of these a server may say in its own words that it does not take them, without a code.
_OURS = re.compile(r"\b(?:seed|top_logprobs|logprobs|temperature|max_completion_tokens)\b")
_SYSTEM = re.compile(
    r"\bsystem (?:role|message|prompt)s?\b|\brole\b.{0,40}\bsystem\b|\broles must alternate\b"
    r"|^messages\W0\W+(?:role|system)\b"
)
_PARAMETERS = {"logprobs": "logprobs", "top_logprobs": "logprobs"}
# A refusal of what a document is, which may name a field beside it.
_OF_DOCUMENT = re.compile(r"context|length|content|prompt|policy|filter|inspection|moderation")
_SAID = ("message", "msg", "detail", "error")
_MOST_CHARACTERS, _DEPTH = 200, 6


class _Fault(BaseModel):
    code: JsonValue = None
    type: JsonValue = None
    param: JsonValue = None


class _Refusal(BaseModel):
    error: _Fault


def refusal(status: int, content: bytes, text: str | None = None) -> str:
    """Return the code that a server gives for refusing a request, such as `context_length_exceeded`.

    Where it does not take a field, that is named too: `unsupported_parameter seed`; `system` is the system's turn.
    Never its message, which may repeat the document: a field is read from its words only where the document's `text`
    is known and does not hold them.
    """
    body = read_json(content)
    try:
        fault = _Refusal.model_validate(body).error
    except ValidationError:
        fault = _Fault()
    named = [name for name in (fault.code, fault.type) if is_name(name)]
    code = str(named[0]) if named else f"http_{status}"
    if code not in UNSUPPORTED and (status in (401, 404, 405, 429) or _OF_DOCUMENT.search(code)):
        return code
    field = _field(body, fault, text, code)
    if field is None or (status >= 500 and field != "system"):
        return code
    return f"{code if code in UNSUPPORTED else UNSUPPORTED[0]} {field}"


def refused_field(code: str) -> str | None:
    """Return the field of the request that a code names; both of `logprobs` and `top_logprobs` are `logprobs`."""
    kind, _, field = code.partition(" ")
    return _PARAMETERS.get(field, field) or None if kind in UNSUPPORTED else None


def status_of(status: int, content: bytes) -> int:
    """Return the status of an answer; one that is an error under status 200, as a router's may be, has the error's."""
    body = read_json(content) if status == 200 else None
    if not isinstance(body, dict) or not body.get("error") or body.get("choices"):
        return status
    error = body["error"]
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 400


def words(content: bytes) -> str:
    """Return what a server says of a refusal in its own words, in one short line. Not for one about a document."""
    said = " ".join(" ".join(_strings(read_json(content))).split())
    return "".join(character for character in said if character.isprintable())[:_MOST_CHARACTERS]


def is_name(value: JsonValue) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\w{1,64}", value) is not None


def _field(body: JsonValue, fault: _Fault, text: str | None, code: str) -> str | None:
    places = [".".join(map(str, place)) for place in _places(body)]
    if isinstance(fault.param, str):
        if code in UNSUPPORTED and is_name(fault.param):
            return fault.param
        places.append(fault.param)
    told = [] if text is None else [" ".join(said.split()).lower() for said in _strings(body)]
    document = (text or "").casefold()
    for said in (*places, *told):
        if _SYSTEM.search(said.removeprefix("body.")) and "system" not in document:
            return "system"
        found = _OURS.search(said)
        if found and found[0] not in document:
            return found[0]
    return None


def _places(value: JsonValue, depth: int = _DEPTH) -> Iterator[list[JsonValue]]:
    """Yield what FastAPI's lists of faults call `loc`, wherever they stand."""
    if isinstance(value, dict):
        place = value.get("loc")
        if isinstance(place, list):
            yield place
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in inside if depth else ():
        yield from _places(part, depth - 1)


def _strings(value: JsonValue, depth: int = _DEPTH) -> Iterator[str]:
    """Yield what a refusal says in words, without the parts of the request that it may repeat beside them."""
    if isinstance(value, str):
        yield value
    inside = [value.get(name) for name in _SAID] if isinstance(value, dict) else value
    for part in inside if depth and isinstance(inside, list) else ():
        yield from _strings(part, depth - 1)
