"""ServedAnnotator: asks an OpenAI-compatible server, many documents at a time, each with retries of its own."""

import asyncio
import contextlib
import datetime
import email.utils
import logging
import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx
from pydantic import BaseModel, JsonValue, ValidationError

from llambert_etl.config import LabellingTask
from llambert_etl.errors import ConfigError, TransientError
from llambert_etl.llm import EachRefusedError, HalfAnsweredError, HalfRefusedError, Reply
from llambert_etl.llm.chat import UNSUPPORTED, Questions, failed, refusal
from llambert_etl.schemas import AnnotationStatus
from llambert_etl.settings import Server, Settings

logger = logging.getLogger(__name__)

# Enough that slots seldom stand empty behind a slow request, few enough that a kill or a used-up budget wastes little.
_BATCHES_PER_SLOT = 4
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
# No answer that we ask for has half of it; what a server sends beyond it is not read.
_MAX_BYTES = 4 * 1024 * 1024
_BUSY = {408, 409, 425, 429}
_OUT_OF_MONEY = "insufficient_quota"
_GIVEN_UP = "given_up"
# What to do where a model does not take a field of the request.
_MENDS = {
    "max_tokens": "set LLAMBERT_SERVERS__{name}__TOKEN_LIMIT=max_completion_tokens",
    "logprobs": "set LLAMBERT_SERVERS__{name}__TOP_LOGPROBS=0",
    "top_logprobs": "set LLAMBERT_SERVERS__{name}__TOP_LOGPROBS=0",
}
_OTHER_MODEL = "name a model that does in annotator.model; docs/annotators.md says which do not"


class _Models(BaseModel):
    data: list[JsonValue]


class ServedAnnotator:
    """Answers with what a server says. A document that it refuses is `failed`, and the others go on."""

    def __init__(self, task: LabellingTask, name: str, server: Server, questions: Questions) -> None:
        self.name, self.server, self.questions = name, server, questions
        self.model, self.revision = task.annotator.model, task.annotator.revision
        self.batch_size = _BATCHES_PER_SLOT * server.concurrency

    @classmethod
    def load(cls, task: LabellingTask, name: str, settings: Settings) -> "ServedAnnotator":
        """Check what needs no server: raise ConfigError for an unknown name and for a template without turns."""
        server = settings.server(name)
        questions = Questions.load(task, settings.include, server)
        return cls(task, name, server, questions)

    def annotate(self, texts: Sequence[str]) -> list[Reply]:
        """Return one reply for each text, in order.

        Raise ConfigError where the server refuses us, HalfRefusedError where it had answered about some by then,
        EachRefusedError where it refuses a whole batch; HalfAnsweredError where it leaves documents without an answer.
        """
        return asyncio.run(self._ask_all(texts))

    async def _ask_all(self, texts: Sequence[str]) -> list[Reply]:
        async with httpx.AsyncClient(
            base_url=self.server.url,
            headers=headers(self.server),
            timeout=self.server.timeout_seconds,
            limits=httpx.Limits(max_connections=self.server.concurrency),
            follow_redirects=False,  # they could lead anywhere
        ) as client:
            batch = _Batch(client, self.name, self.server, self.questions)
            replies = await asyncio.gather(*(batch.ask(text) for text in texts))
        if batch.retries:
            seen = ", ".join(f"{count} {reason}" for reason, count in sorted(batch.retries.items()))
            logger.warning("server %s: asked again after %s", self.name, seen)
        reasons = Counter(reply.reason for reply in replies if reply.status == AnnotationStatus.FAILED)
        seen = ", ".join(sorted(map(str, reasons)))
        if batch.refused is not None:
            if reasons.total() == len(texts):
                raise batch.refused
            message = (
                f"{batch.refused}; {reasons.total()} of {len(texts)} documents are left, the other answers are kept"
            )
            raise HalfRefusedError(message, replies) from batch.refused
        if batch.silent or batch.unanswered == len(texts) > 0:
            message = (
                f"server {self.name!r}: no answer about {batch.unanswered} of {len(texts)} documents ({seen}); run the "
                "step again when it is up, what it answered before is kept"
            )
            raise HalfAnsweredError(message, replies)
        if reasons.total() == self.batch_size:
            raise EachRefusedError(
                f"server {self.name!r}: refused all of {len(texts)} documents ({seen}); see whether the model has room "
                "for them and the server takes what it is asked",
                replies,
            )
        return replies


class _Batch:
    """One call's requests. A server that is silent for longer than our patience is given up for all of them.

    One that refuses us is asked about no more documents; requests under way are waited for, since they are paid.
    """

    def __init__(self, client: httpx.AsyncClient, name: str, server: Server, questions: Questions) -> None:
        self._client, self._name, self._server, self._questions = client, name, server, questions
        self._slots = asyncio.Semaphore(server.concurrency)
        self._heard = time.monotonic()
        self.retries, self.unanswered, self.silent = Counter[str](), 0, False
        self._stopped = asyncio.Event()
        self.refused: ConfigError | None = None

    async def ask(self, text: str) -> Reply:
        async with self._slots:
            pause, started = _FIRST_PAUSE, time.monotonic()
            while self.refused is None:
                found = await self._attempt(text)
                if isinstance(found, Reply):
                    self._heard = time.monotonic()
                    return found
                reason, asked_for = found
                wait = max(asked_for, pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, keeps no secret
                if time.monotonic() + wait > min(started, self._heard) + self._server.patience_seconds:
                    # A server that answers others meanwhile is up, and only this document is too much for it.
                    self.silent |= self._heard < started
                    self.unanswered += 1
                    return failed(reason)
                self.retries[reason] += 1
                await self._wait(wait)
                pause = min(2 * pause, _LONGEST_PAUSE)
            return failed(_GIVEN_UP)

    async def _wait(self, seconds: float) -> None:
        """Sleep, but no longer than until the server refuses us."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)

    async def _attempt(self, text: str) -> Reply | tuple[str, float]:
        """Return the reply, or why there is none yet and how many seconds the server wants us to wait."""
        try:
            async with (
                asyncio.timeout(self._server.timeout_seconds),
                self._client.stream("POST", "chat/completions", json=self._questions.body(text)) as response,
            ):
                content = bytearray()
                async for piece in response.aiter_raw():
                    content += piece
                    if len(content) > _MAX_BYTES:
                        return "unreadable", 0.0
        except (httpx.RequestError, TimeoutError) as error:
            return "too_slow" if isinstance(error, TimeoutError | httpx.TimeoutException) else "unreachable", 0.0
        status, code = response.status_code, refusal(response.status_code, bytes(content))
        try:
            check_access(self._name, status, code)
        except ConfigError as error:
            self.refused = self.refused or error
            self._stopped.set()
            return failed(code)
        if is_passing(status):
            return f"http_{status}", _retry_after(response.headers)
        if status >= 400:
            return failed(code)
        return self._questions.reply(text, bytes(content)) or ("unreadable", 0.0)


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
            if time.monotonic() > latest or len(content) > _MAX_BYTES:
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
    refused, _, field = code.partition(" ")
    if refused in UNSUPPORTED and field:
        mend = _MENDS.get(field, _OTHER_MODEL).format(name=name.upper())
        raise ConfigError(f"server {name!r}: this model does not take {field!r} as sent ({status}, {refused}); {mend}")


def _retry_after(headers: httpx.Headers) -> float:
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
