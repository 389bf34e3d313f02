"""The files of the versions that label runs use: put into the lake by `plan`, so that shards ask no registry."""

import datetime
import logging
from collections.abc import Callable
from pathlib import Path

import polars as pl

from llambert_etl.errors import DataError
from llambert_etl.lake import Lake, collect
from llambert_etl.registry import ModelVersion, task_name
from llambert_etl.store.copies import cached
from llambert_etl.store.folders import Folder, drop_old_folders

logger = logging.getLogger(__name__)

_ROOT = "_models"


def keep(lake: Lake, version: ModelVersion, download: Callable[[ModelVersion], Path]) -> None:
    """Put the version's files into the lake; `download` gives them, and only where the lake lacks a whole copy."""
    folder = _folder(lake, version)
    if folder.holds(version.hashes):
        folder.touch()  # maintain deletes what no plan has asked for in a long time
        return
    logger.info("copying %s version %d to %s", version.name, version.version, folder.uri)
    folder.put(download(version), version.hashes)


def fetch(lake: Lake, version: ModelVersion, cache: Path) -> Path:
    """Return a local folder with the version's files, each verified. Asks the lake only for what is not cached."""
    folder = _folder(lake, version)

    def fill(local: Path) -> None:
        if not folder.holds(version.hashes):
            raise DataError(f"{folder.uri}: no whole copy of the model; run `llambert plan` again with the same --run")
        folder.get(local, version.hashes)

    mend = f"it was changed in {folder.uri}: find out by whom, delete that folder and run `llambert plan` again"
    return cached(version.place(cache), version.hashes, fill, str(version), mend)


def drop_unused(lake: Lake, before: datetime.datetime) -> int:
    """Delete copies that no plan has asked for since a moment and that no row of `labels` names; return how many."""
    return drop_old_folders(lake.storage, _ROOT, before, lambda place: _named(lake, *place))


def _folder(lake: Lake, version: ModelVersion) -> Folder:
    return Folder(lake.storage, _ROOT, version.name, str(version.version))


def _named(lake: Lake, model: str, version: str) -> bool:
    """Tell whether a row of `labels` names this version, or whether it is none of ours."""
    if not version.isdigit():
        return True
    rows = lake.scan("labels", task_name(model)).filter(
        (pl.col("model_name") == model) & (pl.col("model_version") == int(version))
    )
    return collect(rows.head(1)).height > 0
