"""ServedAnnotator: asks an OpenAI-compatible server, many documents at a time."""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence

import httpx

from llambert_etl.config import LabellingTask
from llambert_etl.config.annotator import ServedLlm
from llambert_etl.errors import ConfigError
from llambert_etl.llm import HalfAnsweredError, HalfRefusedError, Reply
from llambert_etl.llm.chat import Questions
from llambert_etl.llm.served_batch import Manners, Requests
from llambert_etl.llm.server import headers
from llambert_etl.schemas import AnnotationStatus
from llambert_etl.settings import Server, Settings

logger = logging.getLogger(__name__)

# Enough that slots seldom stand empty behind a slow request, few enough that a kill or a used-up budget wastes little.
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
        return asyncio.run(self._ask_all(texts))

    async def _ask_all(self, texts: Sequence[str]) -> list[Reply]:
        async with httpx.AsyncClient(
            base_url=self.server.url,
            headers=headers(self.server),
            timeout=self.server.timeout_seconds,
            limits=httpx.Limits(max_connections=self.server.concurrency),
            follow_redirects=False,  # they could lead anywhere
        ) as client:
            requests = Requests(client, self.name, self.server, self.questions, self._manners)
            replies = await asyncio.gather(*(requests.ask(text) for text in texts))
            if requests.declined == len(texts) > 0:
                await requests.ask_plainly(texts)
        if requests.retries:
            seen = ", ".join(f"{count} {reason}" for reason, count in sorted(requests.retries.items()))
            logger.warning("server %s: asked again after %s", self.name, seen)
        reasons = Counter(reply.reason for reply in replies if reply.status == AnnotationStatus.FAILED)
        seen = ", ".join(sorted(map(str, reasons)))
        if requests.refused is not None:
            if reasons.total() == len(texts):
                raise requests.refused
            message = (
                f"{requests.refused}; {reasons.total()} of {len(texts)} documents are left, the other answers are kept"
            )
            raise HalfRefusedError(message, replies) from requests.refused
        if requests.silent or requests.unanswered == len(texts) > 0:
            message = (
                f"server {self.name!r}: no answer about {requests.unanswered} of {len(texts)} documents ({seen}); run "
                "the step again when it is up, what it answered before is kept"
            )
            raise HalfAnsweredError(message, replies)
        return replies
