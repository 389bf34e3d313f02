"""Chooses how labels are brought to a place: a line for each kind of `config.exports`."""

from collections.abc import Callable, Iterable
from typing import Final

import pyarrow as pa

from llambert_etl.config.exports import Export, Parquet, Warehouse
from llambert_etl.exports.published import Arrival, Published
from llambert_etl.exports.snapshots import write_snapshot
from llambert_etl.exports.warehouse import write_warehouse
from llambert_etl.lake import Lake
from llambert_etl.settings import Settings

# Each is called as `bring` is.
WRITERS: Final[dict[type[Export], Callable[..., Arrival]]] = {
    Parquet: write_snapshot,
    Warehouse: write_warehouse,
}


def bring(
    place: Export,
    published: Published,
    batches: Iterable[pa.RecordBatch],
    *,
    run: str,
    lake: Lake,
    settings: Settings,
) -> Arrival:
    """Make a place hold exactly these rows of the partition, unless it holds them already, or newer ones."""
    return WRITERS[type(place)](place, published, batches, run=run, lake=lake, settings=settings)
