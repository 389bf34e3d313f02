"""Let the LLM annotate the stable sample as of a partition; what it has answered before is never asked again."""

import time
from collections.abc import Callable

from llambert_etl.annotation.again import read_again
from llambert_etl.annotation.asking import answer
from llambert_etl.annotation.backlog import Backlog
from llambert_etl.lake import Lake
from llambert_etl.llm import Annotator
from llambert_etl.llm.spending import Spending
from llambert_etl.manifest import Manifest
from llambert_etl.run import Run


def annotate(
    run: Run,
    *,
    lake: Lake,
    annotator: Annotator,
    prompt_hash: str,
    sample: int | None = None,
    spending: Spending | None = None,
    retry_failed: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
    clock: Callable[[], float] = time.monotonic,
) -> Manifest:
    """Ask about every sampled text that this prompt, model and revision have not answered; commit batch by batch.

    Before that, what an older parser found no label in is read again.
    A failed answer is kept as such and asked again by later runs, until the document has failed for good; then only
    with `retry_failed`. What another run answers meanwhile is not asked. How it is stopped, `answer` says.
    """
    work = Backlog(
        run,
        lake=lake,
        annotator=annotator,
        prompt_hash=prompt_hash,
        spending=spending or Spending(run.task.annotator),
        sample=sample,
        retry_failed=retry_failed,
    )
    again = read_again(work)
    answer(work, annotator, progress, clock)
    return work.finish(again)
