"""The ids that a task was told to forget, kept as hashes: what comes again under one of them is refused."""

import hashlib
from collections.abc import Iterable

from llambert_etl.lake import Lake


class Forgotten:
    """The ids that were forgotten when this was opened."""

    def __init__(self, lake: Lake, task: str) -> None:
        self._lake, self._task = lake, task
        self._hashes = lake.note_names("_forgotten", task)

    def __contains__(self, key: object) -> bool:
        return bool(self._hashes) and _hash(str(key)) in self._hashes

    def add(self, keys: Iterable[str]) -> None:
        """Note ids, each in a file of its own: two who do so at once lose nothing."""
        for key in keys:
            self._lake.write_note(f"{self._task}/{_hash(key)}", "", folder="_forgotten")
            self._hashes.add(_hash(key))


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
