"""Drop: what a source holds for one partition, whatever its kind."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from llambert_etl.sources.columns import Columns, Row

Rows = Iterator[Row | Columns]


class Piece(NamedTuple):
    """A file of a drop, or a table: `name` is what `documents.source` has, and only a file has a size."""

    name: str
    size: int | None
    rows: Callable[[], Rows]


class Drop:
    """What a source holds for a partition. To open one asks no store, only whether this deployment may read it.

    As it stands here it is one piece that has no versions, such as a table's rows.
    """

    location: object

    def rows(self) -> Rows:
        """Yield the rows, one by one or many in columns, in the same order each time; memory is a batch of them."""
        raise NotImplementedError

    @property
    def key(self) -> str | None:
        """Identify what ingesting it gives; None where that is known only once it is read."""
        return None

    @property
    def pieces(self) -> Sequence[Piece]:
        return [Piece(str(self.location), None, self.rows)]

    def why_empty(self) -> str | None:
        """Say why there is no piece, where there is none."""
        return None

    def verify_unchanged(self) -> None:
        """Raise TransientError where somebody has written while it was read."""
