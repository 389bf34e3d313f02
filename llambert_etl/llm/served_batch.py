"""Asking a server about many documents at a time, each with retries of its own."""

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from typing import NamedTuple

import httpx

from llambert_etl.errors import ConfigError
from llambert_etl.llm import HalfAnsweredError, HalfRefusedError, Reply
from llambert_etl.llm.chat import UNKNOWN, Questions, failed
from llambert_etl.llm.completions import Unknown, read_completion
from llambert_etl.llm.refusals import refusal, refused_field, status_of, words
from llambert_etl.llm.server import MAX_BYTES, check_access, is_passing, retry_after
from llambert_etl.settings import Server

logger = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_GIVEN_UP = "given_up"
# What is asked where a server refuses every document: what it says of this one repeats no document.
_PLAIN_TEXT = "A text of 4 words."
_REPEATED = 16  # characters that are the same by no accident
# So many answers of no known shape, and no other, are enough to know that there will be no other.
_MOST_UNKNOWN = 8


class Manners:
    """What is learnt of a server, batch after batch: the fields that it is asked without, and how it answers."""

    def __init__(self) -> None:
        self.without: frozenset[str] = frozenset()
        self.understood = self.unknown = 0  # answers


class _Sent(NamedTuple):
    """What came back for a question. `wait` is how many seconds the server wants us to wait."""

    status: int
    content: bytes
    wait: float


class Connection:
    """A connection to a server that batches share: its slots, when it was last heard, and whether asking is over."""

    def __init__(self, client: httpx.AsyncClient, slots: asyncio.Semaphore) -> None:
        self.client, self.slots = client, slots
        self.heard, self.over = time.monotonic(), asyncio.Event()
        self.batches: list[Requests] = []


class Requests:
    """One batch's requests. A server that is silent for longer than our patience is given up for all of them.

    One that refuses us is asked about no more documents; requests under way are waited for, since they are paid. Of a
    batch that is `withdrawn` no more is asked.
    """

    def __init__(
        self, connection: Connection, name: str, server: Server, questions: Questions, manners: Manners
    ) -> None:
        self._connection, self._name, self._server, self._questions = connection, name, server, questions
        self._manners = manners
        self.withdrawn = False
        self._retries, self._unanswered, self._declined = Counter[str](), 0, 0
        self._silent = False
        self._refused: ConfigError | None = None
        if not connection.batches:
            connection.heard = time.monotonic()  # nobody has asked it anything for a while
        connection.batches.append(self)

    @property
    def in_doubt(self) -> bool:
        """Tell whether the server was silent or has refused us: then no other batch is asked about."""
        return self._silent or self._refused is not None

    async def ask(self, text: str) -> Reply | None:
        """Return the reply about a document when its turn has come; None where asking was over before there was one."""
        connection = self._connection
        async with connection.slots:
            pause, started = _FIRST_PAUSE, time.monotonic()
            while not (self.withdrawn or connection.over.is_set()):
                found = await self._attempt(text)
                if isinstance(found, Reply):
                    connection.heard = time.monotonic()
                    return found
                reason, asked_for = found
                wait = max(asked_for, pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, keeps no secret
                if time.monotonic() + wait > min(started, connection.heard) + self._server.patience_seconds:
                    # A server that answers others meanwhile is up, and only this document is too much for it.
                    if connection.heard < started:
                        self._fall_silent()
                    self._unanswered += 1
                    return failed(reason)
                self._retries[reason] += 1
                await self._wait(wait)
                pause = min(2 * pause, _LONGEST_PAUSE)
            return failed(_GIVEN_UP) if self._refused else None

    async def judge(self, replies: list[Reply], others: int = 0) -> list[Reply]:
        """Return the replies of a batch that is over, as many `others` left out; raise as `annotate` does.

        The others are answers that are kept already.
        """
        self._connection.batches.remove(self)
        asked = len(replies) + others
        if self._declined == asked > 0:
            await self._ask_plainly(asked)
        if self._retries:
            seen = ", ".join(f"{count} {reason}" for reason, count in sorted(self._retries.items()))
            logger.warning("server %s: asked again after %s", self._name, seen)
        reasons = Counter(reply.reason for reply in replies if not reply.is_answer)
        if self._refused is not None:
            if reasons.total() == asked:
                raise self._refused
            message = f"{self._refused}; {reasons.total()} of {asked} documents are left, the other answers are kept"
            raise HalfRefusedError(message, replies) from self._refused
        if self._silent or self._unanswered == asked > 0:
            seen = ", ".join(sorted(map(str, reasons)))
            message = (
                f"server {self._name!r}: no answer about {self._unanswered} of {asked} documents ({seen}); run "
                "the step again when it is up, what it answered before is kept"
            )
            raise HalfAnsweredError(message, replies)
        return replies

    async def _ask_plainly(self, documents: int) -> None:
        """Find out whose fault it is where every document was refused: ask about a text that has none.

        Where that is refused too, nothing that this server is sent would be taken, and it is given up.
        """
        async with self._connection.slots:
            answer = await self._send(_PLAIN_TEXT)
        if isinstance(answer, str):
            return
        status, content = answer.status, answer.content
        if 400 <= status < 500 and not is_passing(status):
            code = refusal(status, content, _PLAIN_TEXT)
            self._give_up(
                f"refused all of {documents} documents ({code}), and a plain text too: "
                f"{self._own_words(content)!r}; mend what it does not take: annotator.model, the template's turns, or "
                "a field that annotator.leave_out can name"
            )

    def _own_words(self, content: bytes) -> str:
        """Return what a server says of the plain text; nothing where that repeats an example of the prompt or a key."""
        said, key = words(content), self._server.api_key
        sent = " ".join(" ".join(message.content for message in self._questions.prompt.messages).split())
        repeats = any(said[at : at + _REPEATED] in sent for at in range(len(said) - _REPEATED + 1))
        return "" if repeats or (key is not None and key.get_secret_value() in said) else said

    def _give_up(self, fault: str | ConfigError) -> None:
        error = fault if isinstance(fault, ConfigError) else ConfigError(f"server {self._name!r}: {fault}")
        self._refused = self._refused or error
        self._connection.over.set()

    def _fall_silent(self) -> None:
        """Keep the other batches back: whose fault the silence is, is told by this one, whose documents go on."""
        self._silent = True
        for other in self._connection.batches:
            other.withdrawn |= other is not self

    async def _wait(self, seconds: float) -> None:
        """Sleep, but no longer than until asking is over."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._connection.over.wait(), seconds)

    async def _attempt(self, text: str) -> Reply | tuple[str, float]:
        """Return the reply, or why there is none yet and how many seconds the server wants us to wait."""
        without = self._manners.without
        answer = await self._send(text)
        if isinstance(answer, str):
            return answer, 0.0
        status, content = answer.status, answer.content
        if status < 300:
            reply = self._questions.reply(text, content, without)
            return ("unreadable", 0.0) if reply is None else self._understood(reply, content)
        code = refusal(status, content, text)
        field = refused_field(code)
        if field in self._questions.optional() - without:
            self._leave_out(field)
            return await self._attempt(text)
        try:
            check_access(self._name, status, code)
        except ConfigError as error:
            self._give_up(error)
            return failed(code)
        if is_passing(status):
            return f"http_{status}", answer.wait
        self._declined += 1
        return failed(code)

    async def _send(self, text: str) -> _Sent | str:
        """Return what comes back for a question, or why nothing does."""
        body = self._questions.body(text, self._manners.without)
        try:
            async with (
                asyncio.timeout(self._server.timeout_seconds),
                self._connection.client.stream("POST", "chat/completions", json=body) as response,
            ):
                content = bytearray()
                async for piece in response.aiter_raw():
                    content += piece
                    if len(content) > MAX_BYTES:
                        return "unreadable"
        except (httpx.RequestError, TimeoutError) as error:
            return "too_slow" if isinstance(error, TimeoutError | httpx.TimeoutException) else "unreachable"
        return _Sent(status_of(response.status_code, bytes(content)), bytes(content), retry_after(response.headers))

    def _leave_out(self, field: str) -> None:
        if field in self._manners.without:
            return
        self._manners.without |= {field}
        told = ", so there are no probabilities" if field == "logprobs" else ""
        logger.warning("server %s: does not take %r; the run goes on without it%s", self._name, field, told)

    def _understood(self, reply: Reply, content: bytes) -> Reply:
        """Give a server up whose answers are all of no known shape; those that came are kept, for they may be paid."""
        if reply.reason != UNKNOWN:
            self._manners.understood += 1
            return reply
        self._manners.unknown += 1
        hopeless = self._manners.unknown >= _MOST_UNKNOWN and not self._manners.understood
        if hopeless and isinstance(found := read_completion(content), Unknown):
            self._give_up(
                f"answers otherwise than /chat/completions ({found.shape}); what it said is kept as {UNKNOWN!r}, not "
                f"asked for again; mend LLAMBERT_SERVERS__{self._name.upper()}__URL, or ask it another way"
            )
        return reply
