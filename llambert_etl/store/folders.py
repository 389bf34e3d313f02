"""Folders of large files in the lake, such as a model's: streamed, and whole only once their list is written."""

import datetime
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel

from llambert_etl.errors import DataError
from llambert_etl.store.faults import store_faults
from llambert_etl.store.storage import Storage, safe_key

_LIST = "files.json"
Place = tuple[str, str]
# One part of an upload and one request of a download.
_CHUNK = 16 * 1024 * 1024


class _Listed(BaseModel, frozen=True, extra="forbid"):
    hashes: dict[str, str]
    bytes: dict[str, int]


class Folder:
    """One folder below the lake. The list of its files is written last: without it, what lies there does not count."""

    def __init__(self, storage: Storage, *place: str) -> None:
        self._storage, self._key = storage, safe_key(*place)
        self.uri = f"{storage.uri}/{self._key}"

    def hashes(self) -> dict[str, str] | None:
        """Return the sha256 of each listed file, or None where no list was written, or a file is lost or cut.

        Content is verified where it is used.
        """
        found = self._storage.read(f"{self._key}/{_LIST}")
        if found is None:
            return None
        listed, sizes = _Listed.model_validate_json(found), self.sizes()
        return listed.hashes if listed.bytes == {name: sizes.get(name) for name in listed.hashes} else None

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each file that lies here, listed or not."""
        return {info.base_name: info.size for info in self._storage.list(self._key)}

    def holds(self, hashes: Mapping[str, str]) -> bool:
        """Tell whether these very files were put here and none is lost or cut."""
        return self.hashes() == hashes

    def touch(self) -> None:
        """Write the list again, so that the folder counts as used now."""
        listed = self._storage.read(f"{self._key}/{_LIST}")
        if listed is not None:
            self._storage.write(f"{self._key}/{_LIST}", [listed])

    def put(self, local: Path, hashes: Mapping[str, str]) -> None:
        """Copy files of a local folder here. Raise DataError where one is not what its sha256 says.

        What the list names with the same sha256 is not written again.
        """
        sizes, there = {}, self.hashes() or {}
        for name, wanted in hashes.items():
            digest, sizes[name] = hashlib.sha256(), (local / name).stat().st_size
            if there.get(name) == wanted:
                continue
            self.write(name, _hashed(local / name, digest))
            if digest.hexdigest() != wanted:
                raise DataError(f"{local / name}: changed before it was copied to {self.uri}; run the step again")
        self.seal(hashes, sizes)

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write one file. It does not count before `seal` lists it."""
        self._storage.write(f"{self._key}/{name}", chunks)

    def read(self, name: str) -> Iterator[bytes]:
        """Yield a file that lies here, listed or not, in bounded pieces."""
        with store_faults(f"{self.uri}/{name}"), self._storage.open(f"{self._key}/{name}") as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk

    def seal(self, hashes: Mapping[str, str], sizes: Mapping[str, int]) -> None:
        """Write the list of the files that were written: from now on they count."""
        listed = _Listed(hashes=dict(hashes), bytes=dict(sizes))
        self._storage.write(f"{self._key}/{_LIST}", [listed.model_dump_json().encode()])

    def drop_unlisted(self) -> None:
        """Delete what lies here and is not on the list."""
        listed = {_LIST, *(self.hashes() or {})}
        for info in self._storage.list(self._key):
            if info.base_name not in listed:
                self._storage.delete(info)

    def get(self, local: Path, names: Iterable[str]) -> None:
        """Copy files to a local folder."""
        for name in names:
            with (local / name).open("wb") as file:
                file.writelines(self.read(name))

    def delete(self, before: datetime.datetime | None = None) -> bool:
        """Delete it, the list first: cut off half-way, the rest counts no more.

        Where something was written since `before`, delete nothing and return False.
        """
        there = self._storage.list(self._key)
        if before is not None and any(info.mtime >= before for info in there):
            return False
        for info in sorted(there, key=lambda info: info.base_name != _LIST):
            self._storage.delete(info)
        return True


def drop_old_folders(
    storage: Storage, root: str, before: datetime.datetime, keep: Callable[[Place], bool] = lambda place: False
) -> int:
    """Delete the folders two levels below `root` in which nothing was written since a moment; return how many."""
    written: dict[Place, list[datetime.datetime]] = defaultdict(list)
    for key, info in storage.below(root).items():
        if key.count("/") == 2:
            parent, own, _ = key.split("/")
            written[parent, own].append(info.mtime)
    needless = [place for place, moments in written.items() if max(moments) < before and not keep(place)]
    # Looked at once more: to delete those before it takes a while, in which somebody may have come to need this one.
    return sum(Folder(storage, root, *place).delete(before) for place in needless)


def _hashed(path: Path, digest: "hashlib._Hash") -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            yield chunk
