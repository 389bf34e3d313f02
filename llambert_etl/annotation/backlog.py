"""Backlog: the sampled documents that an annotator has not answered, and the answers on their way to the lake."""

import datetime
import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType, MappingProxyType

import polars as pl
import pyarrow as pa
from pydantic import JsonValue

from llambert_etl.config import LabellingTask
from llambert_etl.documents import as_of
from llambert_etl.documents import sample as take_sample
from llambert_etl.errors import DataError, TransientError
from llambert_etl.lake import Lake, lake_faults
from llambert_etl.llm import Annotator, HalfAnsweredError, HalfRefusedError, Reply
from llambert_etl.llm.parsing import PARSER_VERSION
from llambert_etl.llm.spending import Spending
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.schemas import TABLES, AnnotationStatus
from llambert_etl.signals import handling

logger = logging.getLogger(__name__)

# A batch is committed when it has this age or, where one call of the annotator takes longer, after the call.
COMMIT_SECONDS = 60.0
_ANSWERED = (AnnotationStatus.LABELLED, AnnotationStatus.UNPARSED)


class Backlog:
    """One run's sample, the `documents` of it that are still to be asked, and what has been answered so far.

    `chosen` documents (id, text, text_hash) stand for the sample where a study asks about some of its own.
    """

    def __init__(
        self,
        task: LabellingTask,
        partition: Partition,
        *,
        run: str,
        lake: Lake,
        annotator: Annotator,
        prompt_hash: str,
        spending: Spending,
        sample: int | None = None,
        chosen: pl.DataFrame | None = None,
        step: str = "annotate",
    ) -> None:
        self.task, self.partition, self.lake, self.spending = task, partition, lake, spending
        self.question = {"prompt_hash": prompt_hash, "model": annotator.model, "revision": annotator.revision}
        self._run, self.step, self._wanted = run, step, task.sample_size(asked=sample)
        self._started = datetime.datetime.now(datetime.UTC)
        self._documents_version = lake.version("documents")
        with lake_faults(f"documents {task.name} {partition}"):
            if chosen is None:
                chosen = take_sample(as_of(lake, task.name, partition), self._wanted, task.annotator.seed)
        self._sample = chosen
        self.documents = self.unanswered(self._sample)
        spending.resume(self._spent_before())
        self._pending: list[tuple[dict[str, str], Reply]] = []
        self._rows, self._reasons, self._answered_by = Counter[str](), Counter[str](), Counter[str]()
        self._version: int | None = None
        logger.info(
            "%s %s %s: sample of %s (%s asked for), %s answered before",
            step,
            task.name,
            partition,
            self._sample.height,
            self._wanted,
            self._sample.height - self.documents.height,
        )

    @property
    def done(self) -> int:
        return self._rows.total()

    def unanswered(self, documents: pl.DataFrame) -> pl.DataFrame:
        """Return the documents that this prompt, model and revision have not answered."""
        with lake_faults(f"annotations {self.task.name}"):
            answered = self.answered().select("text_hash").collect()
        return documents.join(answered, on="text_hash", how="anti")

    def check_budget(self) -> None:
        """Raise DataError where the run has spent what its task allows; what is answered is committed before."""
        spent = self.spending.used_up()
        if spent is None:
            return
        self.commit()
        raise DataError(
            f"{self.step} {self.task.name} {self.partition}: the budget is used up: {spent} in run {self._run!r}; "
            f"{self.documents.height - self.done} documents are left to ask and what is answered is committed: raise "
            "annotator.budget and run it again, and it goes on from there"
        )

    def ask(self, annotator: Annotator, documents: pl.DataFrame) -> None:
        """Get the replies about one batch of documents and keep them, those too that came before a failure."""
        try:
            replies = annotator.annotate(documents["text"].to_list())
        except (HalfAnsweredError, HalfRefusedError) as error:
            self.keep(documents, error.replies)
            self.commit()
            raise
        self.keep(documents, replies)

    def keep(self, documents: pl.DataFrame, replies: Sequence[Reply]) -> None:
        """Keep the replies about some documents, in their order, for the next commit."""
        for document, reply in zip(documents.select("id", "text_hash").to_dicts(), replies, strict=True):
            self._pending.append((document, reply))
            self._rows[reply.status.value] += 1
            self.spending.add(reply)
            if reply.reason is not None:
                self._reasons[reply.reason] += 1
            if reply.answered_by is not None:
                self._answered_by[reply.answered_by] += 1

    def commit(self) -> None:
        if not self._pending:
            return
        rows = pa.Table.from_pylist(
            [self._row(document, reply) for document, reply in self._pending], schema=TABLES["annotations"].schema
        )
        done = self.lake.append_once("annotations", self.task.name, self.partition, rows, manifest=self._manifest())
        logger.info("%s %s %s: committed version %s", self.step, self.task.name, self.partition, done.version)
        self._version, self._pending = done.version, []

    def finish(self, facts: Mapping[str, object] = MappingProxyType({}), **others: int) -> Manifest:
        """Return the run's account, with the label shares of the whole sample: this run's answers and older ones.

        `others` counts documents that became neither: `left` for a later run, say.
        """
        with lake_faults(f"annotations {self.task.name}"):
            mine = self.answered().join(self._sample.lazy().select("text_hash"), on="text_hash", how="semi")
            labels = mine.filter(pl.col("status") == AnnotationStatus.LABELLED).select("label").collect()["label"]
        shares = {label: int((labels == label).sum()) / max(len(labels), 1) for label in self.task.labels}
        return self._manifest({"label_shares": shares, **facts}, others)

    def answered(self) -> pl.LazyFrame:
        """Return the answers that this prompt, model and revision have given about any text of the task."""
        return self.lake.scan("annotations", self.task.name).filter(
            *(pl.col(name) == value for name, value in self.question.items()),
            pl.col("status").is_in([status.value for status in _ANSWERED]),
        )

    def _spent_before(self) -> dict[str, JsonValue]:
        """Return what earlier tries of this run have spent: its newest commit tells for all of them."""
        with lake_faults(f"annotations {self.task.name} {self.partition}"):
            asked = self.lake.scan("annotations", self.task.name, self.partition).filter(pl.col("run") == self._run)
            if asked.head(1).collect().is_empty():
                return {}  # and not after a look at every commit of a year
        mine = (self.task.name, self.partition, self._run)
        for commit in self.lake.commits("annotations", self.task.name):
            manifest = commit.manifest
            if manifest is not None and (manifest.task, manifest.partition, manifest.run) == mine:
                spent = manifest.facts.get("spent")
                return spent if isinstance(spent, dict) else {}
        return {}

    def _manifest(
        self, facts: Mapping[str, object] = MappingProxyType({}), others: Mapping[str, int] = MappingProxyType({})
    ) -> Manifest:
        """Account for the documents done so far; the last commit's manifest accounts for all."""
        reused = self._sample.height - self.documents.height
        statuses = {status.value: self._rows[status.value] for status in AnnotationStatus}
        elapsed = (datetime.datetime.now(datetime.UTC) - self._started).total_seconds()
        return Manifest.model_validate(
            {
                "step": self.step,
                "task": self.task.name,
                "partition": self.partition,
                "run": self._run,
                "rows": {"read": reused + self.done + sum(others.values()), **statuses, "reused": reused, **others},
                "reasons": dict(self._reasons),
                "versions_read": {"documents": self._documents_version},
                "versions_written": {} if self._version is None else {"annotations": self._version},
                "config_hash": self.task.config_hash,
                "tokens": self.spending.tokens_in + self.spending.tokens_out,
                "cost": round(self.spending.usd, 6),
                "facts": {
                    "sample_wanted": self._wanted,
                    "sample": self._sample.height,
                    "sample_is_short": self._sample.height < self._wanted,
                    "asked": self.done,
                    "seconds_per_document": round(elapsed / self.done, 4) if self.done else None,
                    **self.question,
                    "answered_by": dict(self._answered_by),
                    "tokens_in": self.spending.tokens_in,
                    "tokens_out": self.spending.tokens_out,
                    "spent": self.spending.spent(),
                    **facts,
                },
            }
        ).finished(self._started)

    def _row(self, document: dict[str, str], reply: Reply) -> dict[str, object]:
        probabilities = reply.probabilities and [
            {"label": label, "probability": probability} for label, probability in reply.probabilities.items()
        ]
        return {
            "task": self.task.name,
            "partition": str(self.partition),
            **document,
            **self.question,
            "parser_version": PARSER_VERSION,
            "status": reply.status.value,
            "reason": reply.reason,
            "label": reply.label,
            "probabilities": probabilities,
            "reply": reply.raw,
            "tokens": reply.tokens,
            "run": self._run,
        }


def answer(
    work: Backlog,
    annotator: Annotator,
    progress: Callable[[int, int], None],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Ask about every document of the backlog and commit batch by batch.

    On SIGTERM the batch in flight is finished and committed, then TransientError is raised; a second SIGTERM, or a
    kill, loses that batch and no other. Raise DataError, before the next batch, where the task's budget is used up.
    """
    # What a server has answered is paid for, so it is committed at once.
    age = COMMIT_SECONDS if work.task.annotator.server is None else 0.0
    with stop_signal() as stop:
        committed = clock()
        for asked in work.documents.iter_slices(annotator.batch_size):
            work.check_budget()
            work.ask(annotator, asked)
            progress(work.done, work.documents.height)
            if clock() - committed >= age or stop.is_set():
                work.commit()
                committed = clock()
            if stop.is_set() and work.done < work.documents.height:
                raise TransientError(
                    f"{work.step} {work.task.name} {work.partition}: asked to stop after {work.done} of "
                    f"{work.documents.height} documents; they are committed, run it again for the rest"
                )
        work.commit()


@contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """Turn SIGTERM into an event for as long as the context lasts."""
    stop = threading.Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise SystemExit(TransientError.exit_code)  # no error of a step: nothing on the way may catch it
        stop.set()

    with handling(ask_to_stop, signal.SIGTERM):
        yield stop
