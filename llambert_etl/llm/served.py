"""ServedAnnotator: asks an OpenAI-compatible server, many documents at a time."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal

from llambert_etl.config import LabellingTask
from llambert_etl.config.annotator import ServedLlm
from llambert_etl.errors import ConfigError
from llambert_etl.llm import Reply
from llambert_etl.llm.chat import Questions
from llambert_etl.llm.served_batch import Connection, Manners, Requests
from llambert_etl.llm.server import headers
from llambert_etl.settings import Server, Settings

# Enough that slots seldom stand empty while a commit is made, few enough that a kill or a used-up budget wastes little.
_BATCHES_PER_SLOT = 4


class ServedAnnotator:
    """Answers with what a server says. A document that it refuses is `failed`, and the others go on."""

    def __init__(self, task: LabellingTask, name: str, server: Server, questions: Questions) -> None:
        self.name, self.server, self.questions = name, server, questions
        self.model, self.revision = task.annotator.model, task.annotator.revision
        self.batch_size = _BATCHES_PER_SLOT * server.concurrency
        self._manners = Manners()

    @classmethod
    def load(cls, task: LabellingTask, settings: Settings) -> "ServedAnnotator":
        """Check what needs no server: raise ConfigError for an unknown name and for a template without turns."""
        llm = task.annotator
        if not isinstance(llm, ServedLlm):
            raise ConfigError(f"task {task.name!r}: batch files are for servers; set annotator.server in its task file")
        server = settings.server(llm.server)
        return cls(task, llm.server, server, Questions.load(task, settings.include, server))

    def annotate(self, texts: Sequence[str]) -> list[Reply]:
        """Return one reply for each text, in order.

        Raise ConfigError where the server refuses us, HalfRefusedError where it had answered about some by then;
        HalfAnsweredError where it leaves documents without an answer.
        """
        with self.talk() as talk:
            return talk.annotate(texts)

    @contextmanager
    def talk(self) -> Iterator["Talk"]:
        """Connect to the server for several batches; what is under way at an error's end is cut off."""
        client = httpx.AsyncClient(
            base_url=self.server.url,
            headers=headers(self.server),
            timeout=self.server.timeout_seconds,
            limits=httpx.Limits(max_connections=self.server.concurrency),
            follow_redirects=False,  # they could lead anywhere
        )
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(client):
            yield Talk(self, portal, client)

    def batch(self, connection: Connection) -> Requests:
        return Requests(connection, self.name, self.server, self.questions, self._manners)

    @property
    def is_understood(self) -> bool:
        """Tell whether the server has ever given an answer of a known shape."""
        return self._manners.understood > 0


class Talk:
    """A connection to a server, whose requests go on, on a thread of their own, whatever the caller does meanwhile."""

    def __init__(self, annotator: ServedAnnotator, portal: BlockingPortal, client: httpx.AsyncClient) -> None:
        self._annotator, self._portal = annotator, portal
        self._connection = Connection(client, asyncio.Semaphore(annotator.server.concurrency))

    def batch(self) -> Requests:
        """Return a batch, about whose documents `ask` asks; when all are back, `judge` it."""
        return self._annotator.batch(self._connection)

    def ask(self, batch: Requests, text: str) -> Future[Reply | None]:
        """Ask about a document when a slot is free, in the order of the calls."""
        return self._portal.start_task_soon(batch.ask, text)

    def judge(self, batch: Requests, replies: list[Reply], others: int) -> list[Reply]:
        return self._portal.call(batch.judge, replies, others)

    def end(self) -> None:
        """Ask nothing more: only the requests that are sent already come to an answer."""
        self._portal.call(self._connection.over.set)

    def annotate(self, texts: Sequence[str]) -> list[Reply]:
        """Do what the annotator's `annotate` does, beside what is under way."""
        return self._portal.call(self._ask_all, texts)

    async def _ask_all(self, texts: Sequence[str]) -> list[Reply]:
        batch = self._annotator.batch(Connection(self._connection.client, self._connection.slots))
        replies = await asyncio.gather(*map(batch.ask, texts))
        return await batch.judge([reply for reply in replies if reply is not None])
