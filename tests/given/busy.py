"""A lake in which somebody writes while a step reads."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from llambert_etl.lake import Lake, Snapshot
from llambert_etl.schemas import TableName

Write = Callable[[Lake], None]


class Busy(Lake):
    """A lake in which somebody writes right after a step has first asked for the table `at`."""

    def __init__(self, uri: str, at: TableName, write: Write) -> None:
        super().__init__(uri)
        self._at, self._write_once = at, [write]

    def version(self, table: TableName) -> int:
        found = super().version(table)
        self._interfere(table)
        return found

    def snapshot(self, *tables: TableName, at: Mapping[TableName, int] = MappingProxyType({})) -> Snapshot:
        opened = super().snapshot(*tables, at=at)
        self._interfere(*tables)
        return opened

    def _interfere(self, *tables: TableName) -> None:
        if self._at in tables and self._write_once:
            self._write_once.pop()(Lake(self.uri))
