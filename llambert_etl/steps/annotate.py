"""Let the LLM annotate the stable sample as of a partition; what it has answered before is never asked again."""

import datetime
import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import polars as pl
import pyarrow as pa

from llambert_etl.config import LabellingTask
from llambert_etl.documents import as_of
from llambert_etl.documents import sample as take_sample
from llambert_etl.errors import TransientError
from llambert_etl.lake import Lake, lake_faults
from llambert_etl.llm import Annotator, Reply
from llambert_etl.llm.parsing import PARSER_VERSION
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.schemas import TABLES, AnnotationStatus
from llambert_etl.signals import handling

logger = logging.getLogger(__name__)

# A batch is committed when it has this age or, where one call of the annotator takes longer, after the call.
COMMIT_SECONDS = 60.0
_ANSWERED = (AnnotationStatus.LABELLED, AnnotationStatus.UNPARSED)


def annotate(
    task: LabellingTask,
    partition: Partition,
    *,
    run: str,
    lake: Lake,
    annotator: Annotator,
    prompt_hash: str,
    sample: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    clock: Callable[[], float] = time.monotonic,
) -> Manifest:
    """Ask about every sampled text that this prompt, model and revision have not answered; commit batch by batch.

    A failed answer is kept as such and asked again by the next run. On SIGTERM the batch in flight is finished and
    committed, then TransientError is raised; a second SIGTERM, or a kill, loses that batch and no other.
    """
    work = _Annotation(task, partition, run, lake, annotator, prompt_hash, task.sample_size(asked=sample))
    with _stop_signal() as stop:
        committed = clock()
        for asked in work.batches():
            work.ask(asked)
            progress(work.done, work.backlog.height)
            if clock() - committed >= COMMIT_SECONDS or stop.is_set():
                work.commit()
                committed = clock()
            if stop.is_set() and work.done < work.backlog.height:
                raise TransientError(
                    f"annotate {task.name} {partition}: asked to stop after {work.done} of {work.backlog.height} "
                    "documents; they are committed, run it again for the rest"
                )
        work.commit()
    return work.finish()


class _Annotation:
    """One run's sample, its backlog, and what has been answered so far."""

    def __init__(
        self,
        task: LabellingTask,
        partition: Partition,
        run: str,
        lake: Lake,
        annotator: Annotator,
        prompt_hash: str,
        wanted: int,
    ) -> None:
        self._task, self._partition, self._run, self._lake = task, partition, run, lake
        self._annotator, self._prompt_hash, self._wanted = annotator, prompt_hash, wanted
        self._started = datetime.datetime.now(datetime.UTC)
        self._documents_version = lake.version("documents")
        with lake_faults(f"documents {task.name} {partition}"):
            self._sample = take_sample(as_of(lake, task.name, partition), wanted, task.annotator.seed)
            self.backlog = self._sample.join(self._answered().select("text_hash").collect(), on="text_hash", how="anti")
        self._pending: list[tuple[dict[str, str], Reply]] = []
        self._rows, self._reasons, self._tokens = Counter[str](), Counter[str](), 0
        self._version: int | None = None
        logger.info(
            "annotate %s %s: sample of %s (%s asked for), %s answered before",
            task.name,
            partition,
            self._sample.height,
            wanted,
            self._sample.height - self.backlog.height,
        )

    @property
    def done(self) -> int:
        return self._rows.total()

    def batches(self) -> Iterator[pl.DataFrame]:
        return self.backlog.iter_slices(self._annotator.batch_size)

    def ask(self, documents: pl.DataFrame) -> None:
        """Get the replies of one batch and keep them for the next commit."""
        replies = self._annotator.annotate(documents["text"].to_list())
        for document, reply in zip(documents.select("id", "text_hash").to_dicts(), replies, strict=True):
            self._pending.append((document, reply))
            self._rows[reply.status.value] += 1
            self._tokens += reply.tokens
            if reply.reason is not None:
                self._reasons[reply.reason] += 1

    def commit(self) -> None:
        if not self._pending:
            return
        rows = pa.Table.from_pylist(
            [self._row(document, reply) for document, reply in self._pending], schema=TABLES["annotations"].schema
        )
        done = self._lake.append_once("annotations", self._task.name, self._partition, rows, manifest=self._manifest())
        logger.info("annotate %s %s: committed version %s", self._task.name, self._partition, done.version)
        self._version, self._pending = done.version, []

    def finish(self) -> Manifest:
        """Return the run's account, with the label shares of the whole sample: this run's answers and older ones."""
        with lake_faults(f"annotations {self._task.name}"):
            mine = self._answered().join(self._sample.lazy().select("text_hash"), on="text_hash", how="semi")
            labels = mine.filter(pl.col("status") == AnnotationStatus.LABELLED).select("label").collect()["label"]
        shares = {label: int((labels == label).sum()) / max(len(labels), 1) for label in self._task.labels}
        return self._manifest({"label_shares": shares})

    def _answered(self) -> pl.LazyFrame:
        """Return the answers that this prompt, model and revision have given about any text of the task."""
        return self._lake.scan("annotations", self._task.name).filter(
            (pl.col("prompt_hash") == self._prompt_hash)
            & (pl.col("model") == self._annotator.model)
            & (pl.col("revision") == self._annotator.revision)
            & pl.col("status").is_in([status.value for status in _ANSWERED])
        )

    def _manifest(self, facts: dict[str, object] | None = None) -> Manifest:
        """Account for the documents done so far; the last commit's manifest accounts for all."""
        reused = self._sample.height - self.backlog.height
        statuses = {status.value: self._rows[status.value] for status in AnnotationStatus}
        elapsed = (datetime.datetime.now(datetime.UTC) - self._started).total_seconds()
        return Manifest.model_validate(
            {
                "step": "annotate",
                "task": self._task.name,
                "partition": self._partition,
                "run": self._run,
                "rows": {"read": reused + self.done, **statuses, "reused": reused},
                "reasons": dict(self._reasons),
                "versions_read": {"documents": self._documents_version},
                "versions_written": {} if self._version is None else {"annotations": self._version},
                "config_hash": self._task.config_hash,
                "tokens": self._tokens,
                "facts": {
                    "sample_wanted": self._wanted,
                    "sample": self._sample.height,
                    "sample_is_short": self._sample.height < self._wanted,
                    "asked": self.done,
                    "seconds_per_document": round(elapsed / self.done, 4) if self.done else None,
                    "prompt_hash": self._prompt_hash,
                    "model": self._annotator.model,
                    "revision": self._annotator.revision,
                    **(facts or {}),
                },
            }
        ).finished(self._started)

    def _row(self, document: dict[str, str], reply: Reply) -> dict[str, object]:
        probabilities = reply.probabilities and [
            {"label": label, "probability": probability} for label, probability in reply.probabilities.items()
        ]
        return {
            "task": self._task.name,
            "partition": str(self._partition),
            **document,
            "prompt_hash": self._prompt_hash,
            "model": self._annotator.model,
            "revision": self._annotator.revision,
            "parser_version": PARSER_VERSION,
            "status": reply.status.value,
            "reason": reply.reason,
            "label": reply.label,
            "probabilities": probabilities,
            "reply": reply.raw,
            "tokens": reply.tokens,
            "run": self._run,
        }


@contextmanager
def _stop_signal() -> Iterator[threading.Event]:
    """Turn SIGTERM into an event for as long as the context lasts."""
    stop = threading.Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise SystemExit(TransientError.exit_code)  # no error of a step: nothing on the way may catch it
        stop.set()

    with handling(ask_to_stop, signal.SIGTERM):
        yield stop
