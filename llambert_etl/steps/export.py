"""Export a partition's labels to each place that the task file names."""

import logging

from llambert_etl.errors import ConfigError
from llambert_etl.exports.places import WRITERS
from llambert_etl.exports.published import Arrival, find_published, published_rows
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.run import Run
from llambert_etl.settings import Settings

logger = logging.getLogger(__name__)

NO_LABELS = "no labels were published for this day, or not within the year that the log reaches back"


def export(run: Run, *, lake: Lake, settings: Settings) -> Manifest:
    """Bring what was published last to every place of the export; places that hold it already are left alone.

    `facts.exports` says of each place whether it was exported, held already, or holds newer labels.
    """
    task = run.task
    if not task.export:
        raise ConfigError(f"task {task.name!r}: exports to nowhere; set `export:` in its task file")
    published = find_published(lake, task.name, run.partition)
    if published is None:
        return run.manifest("export", facts={"skip": NO_LABELS})
    arrivals = dict[str, Arrival]()
    for place in task.export:
        rows, write = published_rows(lake, published, settings.state), WRITERS[type(place)]
        arrivals[place.name] = write(place, published, rows, run=run.name, lake=lake, settings=settings)
    exported = published.rows if "exported" in arrivals.values() else 0
    return run.manifest(
        "export",
        rows={"read": published.rows, "exported": exported, "held": published.rows - exported},
        versions_read={"labels": published.version},
        facts={"skip": None, "exports": dict(arrivals), "model_version": published.model_version},
    )
