"""Sending a batch once, though several runs would, and finding one again whose sender died or was never answered."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from llambert_etl.annotation.sent import Sent, SentNote
from llambert_etl.errors import ConfigError, LlambertError, TransientError
from llambert_etl.llm.provider import Provider
from llambert_etl.settings import Server

logger = logging.getLogger(__name__)

# A claim that stands for longer, by the clock of the run that looks at it, and of which the provider knows no batch,
# has lost its run: the first before its file is there, for an upload is long; then so many of the server's time-outs,
# for connecting, sending and answering may take one each.
_UPLOAD_SECONDS, _TIMEOUTS = 1800.0, 3


def standing(
    note: SentNote, provider: Provider, server: Server, stop: threading.Event, clock: Callable[[], float]
) -> Sent | None:
    """Return the batch that is out, whoever sent it; None where none is.

    A claim without a batch is waited for until it has one, and taken away when it has lost its run. Raise
    TransientError when asked to stop meanwhile.
    """
    claim, since = note.read(), clock()
    while claim is not None and claim.batch is None:
        found = provider.find(claim.intent, claim.file)
        if found is not None:
            after = note.swap(claim, claim.having(batch=found.id))
        elif clock() - since > (_TIMEOUTS * server.timeout_seconds if claim.file else _UPLOAD_SECONDS):
            logger.warning("%s: nothing was sent under this claim, and its run is gone; it is taken away", note.place)
            after = note.swap(claim, None)
        elif stop.wait(server.batch_poll_seconds):
            raise TransientError(f"{note.place}: asked to stop while another run sends a batch; run the step again")
        else:
            after = note.read()
            logger.info("%s: waiting for the batch that another run has claimed to send", note.place)
        if after != claim:
            claim, since = after, clock()
    return claim


def submit(claim: Sent, requests: Path, note: SentNote, provider: Provider) -> Sent | None:
    """Send a file of requests under a claim; None where another run claims them too, and was first.

    The claim is confirmed between upload and sending: a run that was taken for dead as it uploaded sends nothing.
    """
    if note.swap(None, claim) != claim:
        return None
    try:
        file = provider.upload(requests)
    except LlambertError:
        note.swap(claim, None)  # nothing was sent, so nothing is to pay
        raise
    sending = claim.having(file=file)
    if note.swap(claim, sending) != sending:
        return None
    try:
        batch = provider.create(file, claim.intent)
    except ConfigError:
        note.swap(sending, None)
        raise
    sent = sending.having(batch=batch.id)
    if note.swap(sending, sent) != sent:
        # Held up here for so long that another run has found the batch and read it, or sends the same documents.
        logger.warning("batch %s: another run has taken these documents over, it is cancelled", batch.id)
        try:
            provider.cancel(batch.id)
        except LlambertError as error:  # the batch may be over already
            logger.warning("%s", error)
        return None
    return sent
