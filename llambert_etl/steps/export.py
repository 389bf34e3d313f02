"""Export a partition's labels to each place that the task file names."""

import logging

from llambert_etl.errors import ConfigError
from llambert_etl.exports.published import Outcome, find_published, read_rows
from llambert_etl.exports.snapshots import write_snapshot
from llambert_etl.exports.warehouse import write_warehouse
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
    outcomes: dict[str, Outcome] = {}
    for place in task.export:
        if place == "parquet":
            outcomes[place] = write_snapshot(lake, published, read_rows(lake, published), settings)
        else:
            name = f"{place.connection}/{place.table}"
            rows = read_rows(lake, published)
            outcomes[name] = write_warehouse(place, published, rows, run=run.name, settings=settings)
    exported = published.rows if "exported" in outcomes.values() else 0
    return run.manifest(
        "export",
        rows={"read": published.rows, "exported": exported, "held": published.rows - exported},
        versions_read={"labels": published.version},
        facts={"skip": None, "exports": dict(outcomes), "model_version": published.model_version},
    )
