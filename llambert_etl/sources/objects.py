"""The files at a location: listed, opened, and checked for change."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, Self

from llambert_etl.errors import TransientError
from llambert_etl.settings import Settings
from llambert_etl.sources.folder import LandingFolder
from llambert_etl.sources.location import Location, allowed_location
from llambert_etl.sources.rows import SourceObject
from llambert_etl.sources.s3 import Bucket


class FileStore(Protocol):
    """Where files lie: a folder of this machine, a bucket, a data set of the hub."""

    def list(self, location: Location) -> Iterator[SourceObject]:
        """Yield every object that the location matches, in any order."""

    def holds(self, location: Location) -> bool:
        """Tell whether the location's folder is there."""

    def open(self, item: SourceObject) -> io.RawIOBase:
        """Open exactly the version that was listed, seekable; raise TransientError when it has changed."""


@dataclass(frozen=True)
class Listing:
    """What lay at a location when it was listed, sorted by URI."""

    location: Location
    store: FileStore
    objects: tuple[SourceObject, ...]

    @classmethod
    def of(cls, location: Location, settings: Settings) -> Self:
        """List the objects at a location. None at all are not an error here."""
        store = _store(location, settings)
        return cls(location, store, tuple(sorted(store.list(location), key=lambda item: item.uri)))

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


def list_files(uri: str, settings: Settings) -> Listing:
    """List the objects at a URI; raise ConfigError where the allow-list does not hold it."""
    return Listing.of(allowed_location(uri, settings.sources), settings)


def _store(location: Location, settings: Settings) -> FileStore:
    if location.bucket is None:
        return LandingFolder(settings.sources)
    if location.scheme == "hf":
        from llambert_etl.sources.dataset import Dataset

        return Dataset(location, settings)
    return Bucket(location.bucket, settings)
