"""Annotate by a provider's batch files: sent, waited for and read by `annotate`, or carried there and back by hand."""

import logging
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

import polars as pl

from llambert_etl.annotation.backlog import Backlog, stop_signal
from llambert_etl.annotation.sent import Desk, Sent, refuse_sent
from llambert_etl.documents import as_of
from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.lake import lake_faults
from llambert_etl.llm.batch_files import Answered, read_results, refuse_foreign, request_line
from llambert_etl.llm.chat import failed
from llambert_etl.llm.provider import Batch, Provider
from llambert_etl.llm.served import ServedAnnotator, check_access
from llambert_etl.manifest import Manifest
from llambert_etl.space import room_in

logger = logging.getLogger(__name__)

# What OpenAI takes in one file, with room to spare in bytes.
_MAX_REQUESTS, _MAX_BYTES = 50_000, 150_000_000
_MISSING = "not_in_batch"


def annotate_in_batches(
    work: Backlog, annotator: ServedAnnotator, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> Manifest:
    """Do what `annotate` does through batch files, one after the other; a run sends each document once.

    What is sent is written to the lake first: a run that was killed, or that ran out of time, is continued by the next,
    which waits for the same batch.
    """
    desk, tried = Desk(work), set[str]()
    with stop_signal() as stop, Provider.open(annotator.name, annotator.server) as provider:
        sent = _left_behind(desk, provider)
        while True:
            if sent is None:
                waiting = work.documents.filter(~pl.col("text_hash").is_in(list(tried)))
                if waiting.is_empty():
                    return work.finish()
                work.check_budget()
                sent = _send(waiting, work, annotator, desk, provider)
            logger.info("annotate %s: waiting for batch %s", work.task.name, sent.batch)
            batch = provider.wait(str(sent.batch), stop)
            _settle(sent, batch, work, annotator, desk, provider)
            progress(work.done, work.documents.height)
            tried |= sent.documents.keys()
            sent = None


def write_batch(work: Backlog, annotator: ServedAnnotator, file: Path) -> Manifest:
    """Write the requests about documents that are not answered yet to a file, as many as a provider takes at once."""
    refuse_sent(work)
    if file.is_dir():
        raise ConfigError(f"{file}: is a folder; name a file in it")
    part = file.with_name(f"{file.name}.part")
    try:
        with room_in(file.parent):
            written = _write(work.documents, part, work, annotator).height
        part.replace(file)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error}; name a file in a folder that is there") from error
    finally:
        part.unlink(missing_ok=True)
    return work.finish(written=written, left=work.documents.height - written)


def read_batch(work: Backlog, annotator: ServedAnnotator, file: Path) -> Manifest:
    """Take the results in a file that somebody fetched, in one commit; a second time changes nothing.

    A document of the sample that it does not answer is `failed`, and asked about again by the next run.
    """
    try:
        answers = read_results([file], annotator.questions)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error}; fetch the output file of the batch again") from error
    if not answers:
        raise DataError(f"{file}: no results in it; fetch the output file of the batch again")
    with lake_faults(f"documents {work.task.name} {work.partition}"):
        corpus = as_of(work.lake, work.task.name, work.partition).filter(pl.col("text_hash").is_in(list(answers)))
        known = corpus.select("id", "text_hash").sort("id").collect().unique("text_hash", maintain_order=True)
    refuse_foreign(answers, set(known["text_hash"]))
    asked = pl.concat([known, work.documents.select("id", "text_hash")]).unique("text_hash", maintain_order=True)
    _keep(asked, answers, work)
    return work.finish()


def _left_behind(desk: Desk, provider: Provider) -> Sent | None:
    """Return what an earlier run sent and did not read. One killed as it sent may have sent it, or not."""
    sent = desk.read()
    if sent is None or sent.batch is not None:
        return sent
    found = provider.find(sent.intent)
    if found is None:
        desk.clear()
        return None
    return desk.write(sent.model_copy(update={"batch": found.id}))


def _send(waiting: pl.DataFrame, work: Backlog, annotator: ServedAnnotator, desk: Desk, provider: Provider) -> Sent:
    with tempfile.TemporaryDirectory() as folder:
        requests = Path(folder) / "requests.jsonl"
        chosen = _write(waiting, requests, work, annotator)
        documents = dict(chosen.select("text_hash", "id").iter_rows())
        sent = desk.write(Sent(intent=uuid.uuid4().hex, batch=None, documents=documents))
        batch = provider.submit(requests, sent.intent)
    logger.info("annotate %s: sent batch %s about %s documents", work.task.name, batch.id, chosen.height)
    return desk.write(sent.model_copy(update={"batch": batch.id}))


def _write(documents: pl.DataFrame, path: Path, work: Backlog, annotator: ServedAnnotator) -> pl.DataFrame:
    """Write requests for as many documents as fit one file and, by a guess, the budget; at least one. Return those."""
    questions, size, tokens = annotator.questions, 0, 0
    answer = work.task.annotator.max_new_tokens
    with path.open("wb") as file:
        for number, (text_hash, text) in enumerate(documents.select("text_hash", "text").iter_rows()):
            line = request_line(questions, text_hash, text)
            size, tokens = size + len(line), tokens + questions.tokens(text)
            full = number == _MAX_REQUESTS or size > _MAX_BYTES or work.spending.used_up(tokens, (number + 1) * answer)
            if number and full:
                return documents.head(number)
            file.write(line)
    return documents


def _settle(
    sent: Sent, batch: Batch, work: Backlog, annotator: ServedAnnotator, desk: Desk, provider: Provider
) -> None:
    """Keep the results of a batch that is over, in one commit, and clear the desk.

    Raise TransientError where there are fewer of them than the provider says, ConfigError after that where they say
    that another batch would fare no better.
    """
    if batch.status == "failed":
        desk.clear()
        raise ConfigError(
            f"server {annotator.name!r}: refused batch {batch.id} as a whole ({batch.fault}), nothing of it is paid; "
            "see whether the account may send so many requests about this model, or take a smaller sample"
        )
    with tempfile.TemporaryDirectory() as folder:
        results = provider.download(batch, Path(folder))
        try:
            answers = read_results(results, annotator.questions)
            refuse_foreign(answers, sent.documents)
        except DataError as error:
            raise DataError(
                f"batch {batch.id}: {error}; fetch its files, mend them and take them by `llambert batch read`, then "
                f"remove {desk.place}"
            ) from error
    if len(answers) < batch.answered:
        raise TransientError(
            f"server {annotator.name!r}: {batch.answered} requests of batch {batch.id} are answered, but its files "
            f"hold {len(answers)} results; run the step again, it reads them again"
        )
    asked = pl.DataFrame({"id": list(sent.documents.values()), "text_hash": list(sent.documents)})
    _keep(asked, answers, work)
    desk.clear()
    for answered in answers.values():
        check_access(annotator.name, 400, str(answered.reply.reason))


def _keep(asked: pl.DataFrame, answers: dict[str, Answered], work: Backlog) -> None:
    """Commit what is said of the documents that have no answer yet; those that nothing is said of are `failed`."""
    open_ = work.unanswered(asked)
    found = [answers.get(text_hash) for text_hash in open_["text_hash"]]
    work.keep(open_, [failed(_MISSING) if answer is None else answer.reply for answer in found])
    work.commit()
