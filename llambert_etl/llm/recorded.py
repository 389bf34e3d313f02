"""RecordedAnnotator: replies that a model gave before, read from a file; nobody is asked and nothing is paid."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import polars as pl

from llambert_etl.config import LabellingTask
from llambert_etl.config.annotator import Recorded, RecordedLlm
from llambert_etl.corpus.documents import hash_text
from llambert_etl.errors import ConfigError, DataError
from llambert_etl.llm import Reply
from llambert_etl.llm.parsing import read_reply
from llambert_etl.schemas import AnnotationStatus
from llambert_etl.settings import Settings
from llambert_etl.wording import listed, told

_READERS: Mapping[str, Callable[[Path], pl.DataFrame]] = {
    ".parquet": pl.read_parquet,
    # A label may look like a number, and a model may have said nothing.
    ".csv": partial(pl.read_csv, infer_schema=False, empty_string_is_null=False),
    ".jsonl": pl.read_ndjson,
}


class RecordedAnnotator:
    """Answers with what was recorded for a text; one without a reply is `failed`, for the file may be completed."""

    batch_size = 4096

    def __init__(self, task: LabellingTask, replies: Mapping[str, str]) -> None:
        self._task, self._replies = task, replies
        self.model, self.revision = task.annotator.model, task.annotator.revision

    @classmethod
    def load(cls, task: LabellingTask, settings: Settings) -> "RecordedAnnotator":
        """Read the file. Raise ConfigError where it or a column is absent, DataError for a row that cannot be used."""
        recorded = cast(RecordedLlm, task.annotator).recorded
        path = settings.include / recorded.file
        return cls(task, _by_text(path, _read(path, recorded), recorded))

    def annotate(self, texts: Sequence[str]) -> list[Reply]:
        """Return one reply for each text, in order."""
        return [self._answer(self._replies.get(hash_text(text))) for text in texts]

    def _answer(self, raw: str | None) -> Reply:
        if raw is None:
            return Reply(None, None, "", AnnotationStatus.FAILED, "not_recorded", 0)
        return read_reply(self._task, raw, 0)


def _read(path: Path, recorded: Recorded) -> pl.DataFrame:
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise ConfigError(f"annotator.recorded.file {path}: expected a {', '.join(_READERS)} file")
    try:
        found = reader(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ConfigError(f"annotator.recorded.file {path}: cannot be read: {told(error)}") from error
    for column in (recorded.text, recorded.reply):
        if column not in found.columns:
            raise ConfigError(
                f"annotator.recorded: {path} has no column {column!r}, only {listed(found.columns)}; name the right one"
            )
    return found.select(text=recorded.text, reply=recorded.reply)


def _by_text(path: Path, rows: pl.DataFrame, recorded: Recorded) -> dict[str, str]:
    """Return replies by the hash of the text as ingest cleans it."""
    replies: dict[str, str] = {}
    for number, (text, reply) in enumerate(rows.iter_rows(), 1):
        if not isinstance(text, str) or not isinstance(reply, str) or not text:
            raise DataError(
                f"{path} row {number}: {recorded.text} and {recorded.reply} must be texts, the first not empty, "
                f"found {type(text).__name__} and {type(reply).__name__}; remove the row"
            )
        key = hash_text(unicodedata.normalize("NFC", text))
        if replies.setdefault(key, reply) != reply:
            raise DataError(f"{path} row {number}: the same text has another reply further up; keep one of the two")
    return replies
