"""Drop: what a source holds for one partition, whatever its kind."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from llambert_etl.config import Source
from llambert_etl.partition import Partition
from llambert_etl.settings import Settings
from llambert_etl.sources.rows import Record, Refusal

Rows = Iterator[Record | Refusal]


class Piece(NamedTuple):
    """A file of a drop, or a table: `name` is what `documents.source` has, and only a file has a size."""

    name: str
    size: int | None
    rows: Callable[[], Rows]


class Drop(ABC):
    """What a source holds for a partition. `location` says where, in messages.

    `key` identifies what ingesting it gives, where that is known before it is read. To open a drop asks no store.
    """

    location: object

    @abstractmethod
    def __init__(self, source: Source, partition: Partition, settings: Settings) -> None:
        """Raise ConfigError where this deployment may not read what the source names."""

    @property
    @abstractmethod
    def key(self) -> str | None: ...

    @property
    @abstractmethod
    def pieces(self) -> Sequence[Piece]: ...

    @abstractmethod
    def why_empty(self) -> str | None:
        """Say why there is no piece, where there is none."""

    @abstractmethod
    def verify_unchanged(self) -> None:
        """Raise TransientError where somebody has written while it was read."""


class RowsDrop(Drop):
    """One piece that has no versions, such as a table's rows: what it holds is known once it is read."""

    key = None

    @abstractmethod
    def rows(self) -> Rows:
        """Yield the rows, in the same order each time; memory is a batch of them."""

    @property
    def pieces(self) -> Sequence[Piece]:
        return [Piece(str(self.location), None, self.rows)]

    def why_empty(self) -> None:
        return None

    def verify_unchanged(self) -> None:
        """Do nothing: one statement reads what was there when it began."""
