"""Annotate by a provider's batch files: sent, waited for and read by `annotate`, or carried there and back by hand."""

import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

from llambert_etl.annotation.again import read_again
from llambert_etl.annotation.asking import stop_signal
from llambert_etl.annotation.backlog import Backlog
from llambert_etl.annotation.claims import standing, submit
from llambert_etl.annotation.failures import without_blame
from llambert_etl.annotation.sent import Sent, SentNote, refuse_sent
from llambert_etl.corpus.documents import as_of
from llambert_etl.errors import ConfigError, DataError, LlambertError, TransientError
from llambert_etl.lake import collect
from llambert_etl.llm.batch_files import Answered, read_results, refuse_foreign, request_line
from llambert_etl.llm.chat import failed
from llambert_etl.llm.provider import Batch, Provider
from llambert_etl.llm.served import ServedAnnotator
from llambert_etl.llm.server import check_access
from llambert_etl.manifest import Manifest
from llambert_etl.settings import Settings
from llambert_etl.store.space import room_in

logger = logging.getLogger(__name__)

# What OpenAI takes in one file, with room to spare in bytes.
_MAX_REQUESTS, _MAX_BYTES = 50_000, 150_000_000
_MISSING, _CANCELLED, _EXPIRED = "not_in_batch", "batch_cancelled", "batch_expired"


def annotate_in_batches(
    work: Backlog,
    annotator: ServedAnnotator,
    settings: Settings,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    clock: Callable[[], float] = time.monotonic,
) -> Manifest:
    """Do what `annotate` does through batch files, one after the other; a run sends each document once.

    What is sent is written to the lake first, by one run only: a run that was killed, or that ran out of time, is
    continued by the next, and two at once wait for the same batch. What a batch that expired did not come to is sent
    again.
    """
    note, tried, again = SentNote(work, settings), set[str](), read_again(work)
    with stop_signal() as stop, Provider.open(annotator.name, annotator.server) as provider:
        while True:
            sent = standing(note, provider, annotator.server, stop, clock)
            if sent is None:
                waiting = work.still_open(work.documents).filter(~pl.col("text_hash").is_in(list(tried)))
                if waiting.is_empty():
                    return work.finish(again)
                work.check_budget()
                sent = _send(waiting, work, annotator, note, provider)
            if sent is None or sent.batch is None:
                continue
            logger.info("annotate %s: waiting for batch %s", work.task.name, sent.batch)
            batch = provider.wait(sent.batch, stop)
            tried |= _settle(sent, batch, work, annotator, note, provider)
            progress(work.done, work.documents.height)


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
    corpus = as_of(work.lake, work.task.name, work.partition).filter(pl.col("text_hash").is_in(list(answers)))
    known = collect(corpus.select("id", "text_hash").sort("id")).unique("text_hash", maintain_order=True)
    refuse_foreign(answers, set(known["text_hash"]))
    asked = pl.concat([known, work.documents.select("id", "text_hash")]).unique("text_hash", maintain_order=True)
    _keep(asked, answers, work)
    return work.finish()


def _send(
    waiting: pl.DataFrame, work: Backlog, annotator: ServedAnnotator, note: SentNote, provider: Provider
) -> Sent | None:
    """Claim documents, send them and return what was sent; None where another run has the claim."""
    with tempfile.TemporaryDirectory() as folder:
        requests = Path(folder) / "requests.jsonl"
        chosen = _write(waiting, requests, work, annotator)
        claim = Sent.claim(dict(chosen.select("text_hash", "id").iter_rows()))
        sent = submit(claim, requests, note, provider)
    if sent is not None:
        logger.info("annotate %s: sent batch %s about %s documents", work.task.name, sent.batch, chosen.height)
    return sent


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
    sent: Sent, batch: Batch, work: Backlog, annotator: ServedAnnotator, note: SentNote, provider: Provider
) -> set[str]:
    """Keep the results of a batch that is over, in one commit, and clear the note. Return the texts that it came to.

    Raise TransientError where there are fewer of them than the provider says, or none; ConfigError after that where
    they say that another batch would fare no better.
    """
    if batch.status == "failed":
        note.swap(sent, None)
        raise ConfigError(
            f"server {annotator.name!r}: refused batch {batch.id} as a whole ({batch.fault}), nothing of it is paid; "
            "see whether the account may send so many requests about this model, or take a smaller sample"
        )
    answers = _results(sent, batch, annotator, note, provider)
    asked = pl.DataFrame({"id": list(sent.documents.values()), "text_hash": list(sent.documents)})
    if batch.status == "expired":
        answers = {key: answer for key, answer in answers.items() if answer.reply.reason != _EXPIRED}
        asked = asked.filter(pl.col("text_hash").is_in(list(answers)))
    missing = _CANCELLED if batch.status == "cancelled" else _MISSING
    well = _keep(asked, answers, work, missing, annotator)
    note.swap(sent, None)
    for answered in answers.values():
        check_access(annotator.name, 400, str(answered.reply.reason))
    if not well and batch.status != "cancelled":
        raise _in_vain(batch, answers, annotator)
    return set(asked["text_hash"])


def _in_vain(batch: Batch, answers: Mapping[str, Answered], annotator: ServedAnnotator) -> LlambertError:
    """Return the error of a batch that is over without a single answer, whatever its status says."""
    reasons = Counter(str(answered.reply.reason) for answered in answers.values())
    seen = ", ".join(sorted(reasons)) or "no results"
    said = f"server {annotator.name!r}: batch {batch.id} is {batch.status}, but nothing of it is answered ({seen})"
    if answers and not any(answered.passing for answered in answers.values()):
        return ConfigError(f"{said}; see whether the model has room for the documents and takes what it is asked")
    return TransientError(f"{said}; run the step again, it is sent again")


def _results(
    sent: Sent, batch: Batch, annotator: ServedAnnotator, note: SentNote, provider: Provider
) -> dict[str, Answered]:
    with tempfile.TemporaryDirectory() as folder:
        results = provider.download(batch, Path(folder))
        try:
            answers = read_results(results, annotator.questions)
            refuse_foreign(answers, sent.documents)
        except DataError as error:
            raise DataError(
                f"batch {batch.id}: {error}; fetch its files, mend them and take them by `llambert batch read`, then "
                f"remove {note.place}"
            ) from error
    if len(answers) < batch.answered:
        raise TransientError(
            f"server {annotator.name!r}: {batch.answered} requests of batch {batch.id} are answered, but its files "
            f"hold {len(answers)} results; run the step again, it reads them again"
        )
    return answers


def _keep(
    asked: pl.DataFrame,
    answers: Mapping[str, Answered],
    work: Backlog,
    missing: str = _MISSING,
    annotator: ServedAnnotator | None = None,
) -> bool:
    """Commit what is said of the documents that have no answer yet; those that nothing is said of are `failed`.

    Return whether anything was answered or, where nothing was, whether the annotator is well and answers a text again.
    """
    open_ = work.unanswered(asked)
    found = [answers.get(text_hash) for text_hash in open_["text_hash"]]
    replies = [failed(missing) if answer is None else answer.reply for answer in found]
    well = any(answer.reply.is_answer for answer in answers.values())
    if not well and replies and annotator is not None:
        well = work.answers_again(annotator.annotate)
    work.keep(open_, replies if well else without_blame(replies))
    work.commit()
    return well
