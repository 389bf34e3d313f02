"""A connection to a server: its requests, which of its answers may change, and what nobody but we can mend."""

import datetime
import email.utils
import re
import time
from typing import Any

import httpx
from pydantic import BaseModel, JsonValue, ValidationError

from llambert_etl.errors import ConfigError, TransientError
from llambert_etl.llm.refusals import refusal, refused_field
from llambert_etl.settings import Server

# No answer that we ask for has half of it; what a server sends beyond it is not read.
MAX_BYTES = 4 * 1024 * 1024
_BUSY = {408, 409, 425, 429}
_OUT_OF_MONEY = "insufficient_quota"
# What to do where a model does not take a field of the request.
_MENDS = {
    "max_tokens": "set LLAMBERT_SERVERS__{name}__TOKEN_LIMIT=max_completion_tokens",
    "max_completion_tokens": "set LLAMBERT_SERVERS__{name}__TOKEN_LIMIT=max_tokens",
    "logprobs": "set LLAMBERT_SERVERS__{name}__TOP_LOGPROBS=0, or annotator.leave_out: [logprobs]",
    "seed": "set annotator.leave_out: [seed]",
    "system": "write a template without a block `system`, or set annotator.leave_out: [system]",
    "temperature": "name a model that does in annotator.model, or set annotator.leave_out: [temperature]",
}
_OTHER_MODEL = "name a model that does in annotator.model; docs/annotators.md says which do not"


class _Models(BaseModel):
    data: list[JsonValue]


def ping(name: str, server: Server) -> int:
    """Return how many models a server lists: a question that costs nothing.

    Raise ConfigError where it refuses us or lists none, TransientError where it does not answer.
    """
    variable = f"LLAMBERT_SERVERS__{name.upper()}__URL"
    try:
        with connect(server) as client:
            response, content = request(client, "GET", "models", server.timeout_seconds)
    except httpx.RequestError as error:
        raise TransientError(f"server {name!r}: {type(error).__name__}; is it up, and {variable} right?") from error
    status = response.status_code
    check_access(name, status, refusal(status, content))
    if response.is_error:
        raise TransientError(f"server {name!r}: answers {status} to a question about its models; is {variable} right?")
    try:
        return len(_Models.model_validate_json(content).data)
    except ValidationError as error:
        raise ConfigError(f"server {name!r}: answers with no list of models; mend {variable}") from error


def connect(server: Server) -> httpx.Client:
    """Return a client of a server for one request at a time."""
    return httpx.Client(
        base_url=server.url, headers=headers(server), timeout=server.timeout_seconds, follow_redirects=False
    )


def request(
    client: httpx.Client, method: str, place: str, seconds: float, **options: Any
) -> tuple[httpx.Response, bytes]:
    """Return an answer and its body, which must end within so many seconds; raise RequestError where it does not."""
    with client.stream(method, place, **options) as response:
        content, latest = bytearray(), time.monotonic() + seconds
        for piece in response.iter_raw():
            content += piece
            if time.monotonic() > latest or len(content) > MAX_BYTES:
                raise httpx.ReadTimeout("the answer does not end", request=response.request)
    return response, bytes(content)


def headers(server: Server) -> dict[str, str]:
    """Return the headers with a server's key. Nothing may come packed: unpacked, a little can fill the memory."""
    key = {} if server.api_key is None else {"Authorization": f"Bearer {server.api_key.get_secret_value()}"}
    return {"Accept-Encoding": "identity", **key}


def is_passing(status: int) -> bool:
    """Tell whether the same request may succeed later."""
    return status in _BUSY or status >= 500


def check_access(name: str, status: int, code: str) -> None:
    """Raise ConfigError for a status that no request to this server can escape."""
    field = refused_field(code)
    if field is not None:
        mend = _MENDS.get(field, _OTHER_MODEL).format(name=name.upper())
        raise ConfigError(
            f"server {name!r}: this model does not take {field!r} as sent ({status}, {code.split()[0]}); {mend}"
        )
    if status in (401, 403):
        raise ConfigError(
            f"server {name!r}: refuses the key ({status}, {code}); mend LLAMBERT_SERVERS__{name.upper()}__API_KEY, or "
            "ask for access to this model"
        )
    if status in (404, 405) or 300 <= status < 400:
        raise ConfigError(
            f"server {name!r}: no such address or model there ({status}, {code}); redirects are not followed; mend "
            f"LLAMBERT_SERVERS__{name.upper()}__URL or annotator.model"
        )
    if code == _OUT_OF_MONEY:
        raise ConfigError(f"server {name!r}: the account has no credit left ({status}, {code}); top it up")


def retry_after(headers: httpx.Headers) -> float:
    """Return the seconds that a server asks to wait, given as a number or as a date; 0 where it does not say."""
    value = headers.get("Retry-After", "")
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # the latter for a number that no date can hold
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return max((moment - datetime.datetime.now(datetime.UTC)).total_seconds(), 0.0)
