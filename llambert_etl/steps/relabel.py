"""Find the partitions of a range that are to be labelled again."""

import datetime
import logging
from collections.abc import Iterator
from itertools import islice

from llambert_etl.errors import ConfigError
from llambert_etl.facts import Relabelled
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.run import Run

logger = logging.getLogger(__name__)

_NAMED = 10


def relabel(run: Run, *, upto: Partition, lake: Lake) -> Manifest:
    """Return in `facts` the days from the run's to `upto` that have documents (`bring_back`), and how many have none.

    A range may be as long as one likes: only what is in the lake is listed, and the first few of the others are named.
    """
    task, first = run.task, run.partition
    if upto < first:
        raise ConfigError(f"relabel {task.name}: {first} to {upto} ends before it begins; swap the two days")
    live = [day for day in lake.partitions("documents", task.name) if first <= day <= upto]
    empty = list(islice((day for day in _days(first, upto) if day not in live), _NAMED))
    if empty:
        logger.info("no documents, so nothing to label: %s%s", ", ".join(empty), " ..." if len(empty) == _NAMED else "")
    return run.manifest("relabel", facts=Relabelled(upto=upto, bring_back=live, without_documents=empty))


def _days(first: Partition, upto: Partition) -> Iterator[str]:
    """Yield each day, lazily: the range may be centuries."""
    start, end = datetime.date.fromisoformat(first), datetime.date.fromisoformat(upto)
    for number in range((end - start).days + 1):
        yield (start + datetime.timedelta(days=number)).isoformat()
