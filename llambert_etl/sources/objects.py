"""The drop: the objects that a source holds for one partition, listed, opened, and checked for change."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from llambert_etl.config import Source
from llambert_etl.errors import TransientError
from llambert_etl.partition import Partition
from llambert_etl.settings import Settings
from llambert_etl.sources.folder import Folder
from llambert_etl.sources.location import Location, allowed_location
from llambert_etl.sources.rows import SourceObject
from llambert_etl.sources.s3 import Bucket


class Store(Protocol):
    def list(self, location: Location) -> Iterator[SourceObject]:
        """Yield every object that the location matches, in any order."""

    def holds(self, location: Location) -> bool:
        """Tell whether the location's folder is there."""

    def open(self, item: SourceObject) -> io.RawIOBase:
        """Open exactly the version that was listed, seekable; raise TransientError when it has changed."""


@dataclass(frozen=True)
class Drop:
    """What lay at a location when it was listed, sorted by URI."""

    location: Location
    store: Store
    objects: tuple[SourceObject, ...]

    def open(self, item: SourceObject) -> io.RawIOBase:
        return self.store.open(item)

    def why_empty(self) -> str | None:
        """Say why there is no object, where there is none."""
        if self.objects:
            return None
        return "no_match" if self.store.holds(self.location) else "no_folder"

    def verify_unchanged(self) -> None:
        """List again. Raise TransientError when an object came, went or changed: somebody is still writing."""
        before, now = set(self.objects), set(self.store.list(self.location))
        if before != now:
            uri = min(item.uri for item in before ^ now)
            raise TransientError(f"{uri!r} changed while {self.location} was read; nothing was committed, run it again")


def find_drop(source: Source, partition: Partition, settings: Settings) -> Drop:
    """List the objects of a task's source for one partition."""
    return list_drop(source.uri.replace("{partition}", partition), settings)


def list_drop(uri: str, settings: Settings) -> Drop:
    """List the objects at an allow-listed URI. An empty drop is not an error here."""
    location = allowed_location(uri, settings.sources)
    store = _store(location, settings)
    return Drop(location, store, tuple(sorted(store.list(location), key=lambda item: item.uri)))


def _store(location: Location, settings: Settings) -> Store:
    if location.bucket is None:
        return Folder(settings.sources)
    if location.scheme == "hf":
        from llambert_etl.sources.dataset import Dataset

        return Dataset(location, settings)
    return Bucket(location.bucket, settings)
