"""Chooses how a source is read: a line for each kind of `config.sources`."""

from collections.abc import Callable
from typing import Final

from llambert_etl.config import FileSource, Source
from llambert_etl.config.sources import TableSource
from llambert_etl.partition import Partition
from llambert_etl.settings import Settings
from llambert_etl.sources.drop import Drop
from llambert_etl.sources.files import FileDrop


def _table_drop(source: TableSource, partition: Partition, settings: Settings) -> Drop:
    # A database's driver takes a third of the time that a step needs to start.
    from llambert_etl.sources.table import TableDrop

    return TableDrop(source, partition, settings)


DROPS: Final[dict[type[Source], Callable[..., Drop]]] = {
    FileSource: FileDrop,
    TableSource: _table_drop,
}


def open_drop(source: Source, partition: Partition, settings: Settings) -> Drop:
    """Open what a source holds for a partition; raise ConfigError where this deployment may not read it."""
    return DROPS[type(source)](source, partition, settings)
