"""What was sent to a provider as a batch file and is not read yet: one note in the lake for each question.

A run writes the note before it sends, and only one run can: it is a claim. Others wait for what that run sends.
"""

import uuid
from collections.abc import Mapping
from typing import Final, Self

from pydantic import BaseModel

from llambert_etl.annotation.backlog import Backlog
from llambert_etl.config import fingerprint
from llambert_etl.errors import ConfigError
from llambert_etl.settings import Settings
from llambert_etl.store.atomic import edit_file

_FOLDER: Final = "_batches"


class Sent(BaseModel, frozen=True, extra="forbid"):
    """A batch that is sent, or about to be. `file` is None until it is uploaded, `batch` while none is known."""

    intent: str
    file: str | None = None
    batch: str | None
    documents: dict[str, str]  # text hash -> id

    @classmethod
    def claim(cls, documents: Mapping[str, str]) -> Self:
        return cls(intent=uuid.uuid4().hex, batch=None, documents=dict(documents))

    def having(self, **found: str) -> Self:
        return self.model_copy(update=found)


class SentNote:
    """Where the note about one task's question lies. Several runs may read and write it."""

    def __init__(self, work: Backlog, settings: Settings) -> None:
        self._lake, self._settings, self._key = work.lake, settings, _key(work)
        self.place = f"{self._lake.uri}/{_FOLDER}/{self._key}"

    def read(self) -> Sent | None:
        return _parse(self._lake.read_note(self._key, folder=_FOLDER))

    def swap(self, old: Sent | None, new: Sent | None) -> Sent | None:
        """Put a note in the place of another, if that still lies there. Return what lies there then."""

        def edit(found: bytes | None) -> bytes:
            lies = (found or b"").decode()
            return (new.model_dump_json() if new else "").encode() if _parse(lies) == old else lies.encode()

        return _parse(edit_file(f"{_FOLDER}/{self._key}", edit, self._settings).decode())


def refuse_sent(work: Backlog) -> None:
    """Raise ConfigError where a batch is out: its documents are paid, and would be paid again if asked about now."""
    if not work.task.annotator.remote:
        return
    sent = _parse(work.lake.read_note(_key(work), folder=_FOLDER))
    if sent is not None:
        raise ConfigError(
            f"task {work.task.name!r}: batch {sent.batch or 'of unknown name'} about {len(sent.documents)} documents "
            "is out; run `llambert annotate` with annotator.batch: true until it is read, or give it up by removing "
            f"{work.lake.uri}/{_FOLDER}/{_key(work)}"
        )


def _key(work: Backlog) -> str:
    return f"{work.task.name}/{fingerprint(work.question)}.json"


def _parse(note: str | None) -> Sent | None:
    return Sent.model_validate_json(note) if note else None
