"""A data set of the hub, at the commit that its revision stands for when it is listed."""

import io
import os
import tempfile
from collections.abc import Iterator

from llambert_etl.hub.client import Check, Hub, HubCommit, HubFile
from llambert_etl.settings import Settings
from llambert_etl.sources.location import Location
from llambert_etl.sources.records import SourceObject
from llambert_etl.store.space import room_in


class Dataset:
    """One data set. A file is copied to a scratch file and verified before it is read, so that no row is a guess."""

    def __init__(self, location: Location, settings: Settings) -> None:
        self._name, _, self._revision = str(location.bucket).partition("@")
        self._root = f"hf://datasets/{location.bucket}/"
        self._hub = Hub(settings, f"source {str(location)!r}: is on the hub")
        self._scratch = settings.state
        self._commit: HubCommit | None = None

    def list(self, location: Location) -> Iterator[SourceObject]:
        """Yield matching files, under the revision's name: one that stays the same in a later commit is no other."""
        self._commit = self._hub.commit("dataset", self._name, self._revision)
        deep = len(location.parts) > len(location.folder) + 1
        for file in self._hub.files(self._commit, "/".join(location.folder), deep=deep):
            if location.matches(file.path):
                yield SourceObject(f"{self._root}{file.path}", file.size, file.oid)

    def holds(self, location: Location) -> bool:
        commit = self._commit or self._hub.commit("dataset", self._name, self._revision)
        return any(True for _ in self._hub.files(commit, "/".join(location.folder), deep=True))

    def open(self, item: SourceObject) -> io.RawIOBase:
        commit = self._commit or self._hub.commit("dataset", self._name, self._revision)
        check = Check(HubFile(item.uri.removeprefix(self._root), item.size, item.etag))
        self._scratch.mkdir(parents=True, exist_ok=True)
        with room_in(self._scratch), tempfile.TemporaryFile(dir=self._scratch) as copy:
            copy.writelines(self._hub.read(commit, check))
            copy.seek(0)
            return io.FileIO(os.dup(copy.fileno()))
