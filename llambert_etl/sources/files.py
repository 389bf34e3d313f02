"""The files at a location, listed, opened and checked for change, and the drop that they are."""

import io
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cached_property, partial
from typing import Protocol

from pydantic import JsonValue

from llambert_etl.config import FileSource, fingerprint
from llambert_etl.errors import TransientError
from llambert_etl.partition import Partition
from llambert_etl.settings import Settings
from llambert_etl.sources.clean import CLEANER_VERSION
from llambert_etl.sources.drop import Drop, Piece, Rows
from llambert_etl.sources.folder import LandingFolder
from llambert_etl.sources.location import Location, allowed_location, is_safe_key
from llambert_etl.sources.readers import read_rows
from llambert_etl.sources.records import Limits, Reason, Refusal, SourceObject
from llambert_etl.wording import printable


class FileStore(Protocol):
    """Where files lie: a folder of this machine, a bucket, a data set of the hub."""

    def list(self, location: Location) -> Iterator[SourceObject]:
        """Yield every object that the location matches, in any order."""

    def holds(self, location: Location) -> bool:
        """Tell whether the location's folder is there."""

    def open(self, item: SourceObject) -> io.RawIOBase:
        """Open exactly the version that was listed, seekable; raise TransientError when it has changed."""


class Listing:
    """What lies at a location. It is listed once, when it is first asked what that is."""

    def __init__(self, uri: str, settings: Settings) -> None:
        """Raise ConfigError where the allow-list does not hold the URI."""
        self.location = allowed_location(uri, settings.sources)
        self._settings = settings

    @cached_property
    def objects(self) -> tuple[SourceObject, ...]:
        """The files, sorted by URI. None at all are not an error here."""
        return tuple(sorted(self._store.list(self.location), key=lambda item: item.uri))

    def open(self, item: SourceObject) -> io.RawIOBase:
        return self._store.open(item)

    def why_empty(self) -> str | None:
        """Say why there is no object, where there is none."""
        if self.objects:
            return None
        return "no_match" if self._store.holds(self.location) else "no_folder"

    def verify_unchanged(self) -> None:
        """List again. Raise TransientError when an object came, went or changed: somebody is still writing."""
        before, now = set(self.objects), set(self._store.list(self.location))
        if before != now:
            uri = min(item.uri for item in before ^ now)
            raise TransientError(f"{uri!r} changed while {self.location} was read; nothing was committed, run it again")

    @cached_property
    def _store(self) -> FileStore:
        if self.location.bucket is None:
            return LandingFolder(self._settings.sources)
        if self.location.scheme == "hf":
            from llambert_etl.sources.dataset import Dataset

            return Dataset(self.location, self._settings)
        from llambert_etl.sources.s3 import Bucket

        return Bucket(self.location.bucket, self._settings)


class FileDrop(Listing, Drop):
    """The files of a partition, each of them a piece."""

    location: Location

    def __init__(self, source: FileSource, partition: Partition, settings: Settings) -> None:
        super().__init__(source.uri.replace("{partition}", partition), settings)
        self._source = source

    @cached_property
    def key(self) -> str:
        """Identify the files, how the task reads them, and how they are cleaned."""
        source = self._source.model_dump(mode="json")
        objects: list[JsonValue] = [[printable(item.uri), item.size, item.etag] for item in self.objects]
        return fingerprint({"objects": objects, "source": source, "cleaner": CLEANER_VERSION})

    @property
    def pieces(self) -> Sequence[Piece]:
        return [Piece(printable(item.uri), item.size, partial(self._read, item)) for item in self.objects]

    def _read(self, item: SourceObject) -> Rows:
        key = item.uri.partition("://")[2].partition("/")[2] if "://" in item.uri else item.uri.removeprefix("/")
        if not is_safe_key(key):
            yield Refusal("line 1", Reason.FILE_UNSAFE_NAME)
            return
        with closing(self.open(item)) as raw:
            yield from read_rows(raw, item.uri, item.size, self._source, Limits())
