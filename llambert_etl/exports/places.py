"""Chooses how labels are brought to a place: a line for each kind of `config.exports`."""

from collections.abc import Callable
from typing import Final

from llambert_etl.config.exports import Export, Parquet, Warehouse
from llambert_etl.exports.published import Arrival
from llambert_etl.exports.snapshots import write_snapshot
from llambert_etl.exports.warehouse import write_warehouse

# Each takes the place, what was published and its rows, and by name `run`, `lake` and `settings`.
WRITERS: Final[dict[type[Export], Callable[..., Arrival]]] = {
    Parquet: write_snapshot,
    Warehouse: write_warehouse,
}
