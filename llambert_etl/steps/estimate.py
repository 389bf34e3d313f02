"""Say what annotating would take before it is done: from a few documents that are asked about, or from their length."""

import time

import polars as pl

from llambert_etl.annotation.backlog import Backlog
from llambert_etl.annotation.sent import refuse_sent
from llambert_etl.llm import Annotator
from llambert_etl.llm.chat import guess_tokens
from llambert_etl.llm.prompts import Chat, Completion
from llambert_etl.llm.spending import Spending
from llambert_etl.manifest import Manifest


def estimate(
    work: Backlog, annotator: Annotator, prompt: Chat | Completion, *, probe: int, later: Spending
) -> Manifest:
    """Ask about the first `probe` documents of the backlog, keep the answers, and go by them for the others.

    The backlog is in the sample's random order, so its first documents stand for all. The probe obeys the task's
    budget. Without one nothing is asked: tokens are guessed from characters, and seconds are not known. `later` has the
    price of the others: a batch file, whose seconds are not known either, costs another than the probe.
    """
    refuse_sent(work)
    asked, left = work.documents.head(probe), work.documents.slice(probe)
    each = _ask(work, annotator, asked)
    if asked.is_empty():
        tokens_in = sum(guess_tokens(prompt, text) for text in left["text"])
        tokens_out = left.height * work.task.annotator.max_new_tokens
    else:
        tokens_in = round(work.spending.tokens_in / asked.height * left.height)
        tokens_out = round(work.spending.tokens_out / asked.height * left.height)
    later.resume(work.spending.spent())
    usd = later.price_of(tokens_in, tokens_out) if later.priced else None
    forecast = {
        "documents": left.height,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "seconds": None if each is None or work.task.annotator.in_batches else round(each * left.height, 1),
        "usd": None if usd is None else round(usd, 4),
        "within_budget": later.used_up(tokens_in, tokens_out) is None,
        "from": "length" if asked.is_empty() else f"{asked.height} documents",
    }
    return work.finish({"forecast": forecast}, left=left.height)


def _ask(work: Backlog, annotator: Annotator, documents: pl.DataFrame) -> float | None:
    """Ask and commit; return the seconds that a document takes, without the first one, which opens the model."""
    took = []
    for part in (documents.head(1), *documents.slice(1).iter_slices(annotator.batch_size)):
        if part.is_empty():
            continue
        work.check_budget()
        began = time.monotonic()
        work.ask(annotator, part)
        took.append(time.monotonic() - began)
        work.commit()
    if len(took) < 2:
        return sum(took) or None
    return sum(took[1:]) / (documents.height - 1)
