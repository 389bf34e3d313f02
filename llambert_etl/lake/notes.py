"""Small files beside the tables: what the steps of one run tell each other, and pages."""

import datetime
from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Literal

from llambert_etl.partition import Partition
from llambert_etl.store.storage import Storage, safe_key

NoteFolder = Literal["_staging", "_batches", "_forgotten"]


class Notes:
    """The notes and pages of a lake."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.uri = storage.uri

    def write_note(self, key: str, content: str, *, folder: NoteFolder = "_staging") -> None:
        """Write a small file. What lies in `_staging` is dropped when it is old, what lies elsewhere is kept."""
        self.storage.write(safe_key(folder, key), [content.encode()])

    def read_note(
        self, key: str, *, folder: NoteFolder = "_staging", max_age: datetime.timedelta | None = None
    ) -> str | None:
        """Return a note, or None where there is none, or none that was written since `max_age` ago."""
        path = safe_key(folder, key)
        written = self.storage.written(path) if max_age else None
        if max_age and (written is None or self.storage.now() - written > max_age):
            return None
        found = self.storage.read(path)
        return None if found is None else found.decode()

    def note_names(self, folder: NoteFolder, prefix: str) -> set[str]:
        """Return the names of the notes that lie in `prefix` of a folder."""
        return {info.base_name for info in self.storage.list(safe_key(folder, prefix))}

    def read_notes(self, name: str) -> Iterator[str]:
        """Yield the staging notes of a name, such as `shard-*.json`."""
        keys = [key for key, info in self.storage.below("_staging").items() if fnmatch(info.base_name, name)]
        found = (self.storage.read(f"_staging/{key}") for key in keys)
        yield from (note.decode() for note in found if note is not None)

    def write_report(self, task: str, partition: Partition, name: str, html: str) -> str:
        """Keep a page and return its address."""
        key = safe_key("_reports", task, str(partition), name)
        self.storage.write(key, [html.encode()])
        return f"{self.uri}/{key}"

    def read_report(self, task: str, partition: Partition, name: str) -> str | None:
        key = safe_key("_reports", task, str(partition), name)
        found = self.storage.read(key)
        return None if found is None else found.decode()
