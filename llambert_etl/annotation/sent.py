"""What was sent to a provider as a batch file and is not read yet: one note in the lake for each question."""

from pydantic import BaseModel, ConfigDict

from llambert_etl.annotation.backlog import Backlog
from llambert_etl.config import fingerprint
from llambert_etl.errors import ConfigError


class Sent(BaseModel):
    """A batch that was sent; `batch` is None while it is not known whether it was."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    intent: str
    batch: str | None
    documents: dict[str, str]  # text hash -> id


class Desk:
    """Where the note about one task's question lies."""

    def __init__(self, work: Backlog) -> None:
        self._lake, self._key = work.lake, f"{work.task.name}/{fingerprint(work.question)}.json"
        self.place = f"{self._lake.uri}/_batches/{self._key}"

    def read(self) -> Sent | None:
        found = self._lake.read_note(self._key, folder="_batches")
        return Sent.model_validate_json(found) if found else None

    def write(self, sent: Sent) -> Sent:
        self._lake.write_note(self._key, sent.model_dump_json(), folder="_batches")
        return sent

    def clear(self) -> None:
        self._lake.write_note(self._key, "", folder="_batches")


def refuse_sent(work: Backlog) -> None:
    """Raise ConfigError where a batch is out: its documents are paid, and would be paid again if asked about now."""
    if work.task.annotator.server is None:
        return
    desk = Desk(work)
    sent = desk.read()
    if sent is not None:
        raise ConfigError(
            f"task {work.task.name!r}: batch {sent.batch or 'of unknown name'} about {len(sent.documents)} documents "
            "is out; run `llambert annotate` with annotator.batch: true until it is read, or give it up by removing "
            f"{desk.place}"
        )
