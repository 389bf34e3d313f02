"""The rows of one drop on their way into the lake, and their count."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

import pyarrow as pa

from llambert_etl.config import fingerprint
from llambert_etl.corpus.documents import hash_text
from llambert_etl.corpus.forgotten import Forgotten
from llambert_etl.facts import Ingested
from llambert_etl.manifest import Manifest
from llambert_etl.run import Run
from llambert_etl.schemas import TABLES, DocumentStatus
from llambert_etl.sources.clean import CLEANER_VERSION, SeenIds, clean
from llambert_etl.sources.drop import Drop
from llambert_etl.sources.records import Missing, Reason, Record, Refusal, printable
from llambert_etl.wording import MAX_NAME_CHARS

_CHUNK_ROWS = 20_000
_CHUNK_BYTES = 32 << 20
_MAX_FIELDS = 50

Row = dict[str, str | None]


class Tally:
    """The rows of one drop on their way into the lake, and their count."""

    def __init__(self, run: Run, forgotten: Forgotten) -> None:
        self._source = run.task.source
        self._fixed: Row = {"task": run.task.name, "partition": str(run.partition), "run": run.name}
        self._seen, self._forgotten = SeenIds(), forgotten
        self._content = 0
        self._rows_hash = hashlib.blake2b()
        self._bytes = 0
        self.files = 0
        self.sources: set[str] = set()
        self._accepted = 0
        self._files_refused: set[str] = set()
        self._absent = _AbsentFields()
        self.reasons: Counter[str] = Counter()

    @property
    def rows(self) -> dict[str, int]:
        rejected = self.reasons.total()
        return {"read": self._accepted + rejected, "accepted": self._accepted, "rejected": rejected}

    @property
    def key(self) -> str:
        """Identify the rows themselves and how the task reads them, where no version of a file stands for them."""
        source = self._source.model_dump(mode="json")
        return fingerprint({"rows": self._rows_hash.hexdigest(), "source": source, "cleaner": CLEANER_VERSION})

    @property
    def absent_fields(self) -> dict[str, list[str]]:
        """Return `id` and `text`, where no row has that field, each with the names of the fields that rows have."""
        return self._absent.found()

    def facts(self, before: Manifest | None) -> Ingested:
        """Say what came in, and whether the accepted documents differ from those of the commit that is replaced."""
        content = f"{self._content:016x}"
        return Ingested(
            files=self.files,
            files_refused=len(self._files_refused),
            bytes=self._bytes,
            empty=not self.files and not self.rows["read"],
            replayed=False,
            absent_fields=self.absent_fields,
            content=content,
            content_changed=before is not None and Ingested.of(before).content != content,
            accepted_before=before.rows["accepted"] if before is not None else None,
        )

    def chunks(self, drop: Drop) -> Iterator[pa.Table]:
        """Yield tables bounded in rows and bytes."""
        schema = TABLES["documents"].schema
        held: list[Row] = []
        size = 0
        for row in self._rows(drop):
            held.append(row)
            size += len((row.get("text") or "").encode())
            if len(held) >= _CHUNK_ROWS or size >= _CHUNK_BYTES:
                yield pa.Table.from_pylist(held, schema=schema)
                held, size = [], 0
        if held:
            yield pa.Table.from_pylist(held, schema=schema)

    def _rows(self, drop: Drop) -> Iterator[Row]:
        for source, found in self._read(drop):
            row = self._row(source, found)
            self._rows_hash.update(repr((row["id"], row["text_hash"], row.get("reason"))).encode())
            yield {**self._fixed, "source": source, **row}

    def _read(self, drop: Drop) -> Iterator[tuple[str, Record | Refusal]]:
        """Yield what the drop holds, each with the file or the table that holds it."""
        for piece in drop.pieces:
            self.sources.add(piece.name)
            if piece.size is not None:
                self.files += 1
                self._bytes += piece.size
            for found in piece.rows():
                yield piece.name, found

    def _row(self, source: str, found: Record | Refusal) -> Row:
        if isinstance(found, Refusal):
            if found.reason.startswith("file_"):
                self._files_refused.add(source)
            return self._rejected(found.place, found.reason, None, None)
        self._absent.see(found)
        key, text, reason = clean(found, self._source.max_chars)
        if key in self._forgotten:
            return self._rejected(found.place, Reason.FORGOTTEN, None, None)
        text_hash = None if text is None else hash_text(text)
        if reason is None and key is not None and text_hash is not None:
            reason = self._seen.claim(key, text_hash)
        if reason is not None:
            return self._rejected(found.place, reason, key, text_hash)
        self._accepted += 1
        # A sum, so that the order of files does not matter.
        row_hash = hashlib.blake2b(f"{text_hash}{key}".encode(), digest_size=8).digest()
        self._content = (self._content + int.from_bytes(row_hash)) % 2**64
        status = DocumentStatus.ACCEPTED
        return {"id": key, "status": status, "place": found.place, "text": text, "text_hash": text_hash}

    def _rejected(self, place: str, reason: Reason, key: str | None, text_hash: str | None) -> Row:
        self.reasons[reason] += 1
        status = DocumentStatus.REJECTED
        return {"id": key, "status": status, "reason": reason, "place": place, "text_hash": text_hash}


class _AbsentFields:
    """Which of the two fields no row has had so far, and which fields the rows have had."""

    def __init__(self) -> None:
        self._left = {"id", "text"}
        self._seen: dict[str, None] = {}
        self._any = False

    def see(self, record: Record) -> None:
        if not self._left:
            return
        self._any = True
        for field, value in (("id", record.id), ("text", record.text)):
            if not isinstance(value, Missing):
                self._left.discard(field)
            elif len(self._seen) < _MAX_FIELDS:
                self._seen_fields(value.fields)

    def _seen_fields(self, fields: Iterable[str]) -> None:
        """Keep names short: a field that is none can be a document's text."""
        self._seen.update(dict.fromkeys(printable(name[:MAX_NAME_CHARS]) for name in islice(fields, _MAX_FIELDS)))

    def found(self) -> dict[str, list[str]]:
        names = sorted(self._seen)[:_MAX_FIELDS]
        return {field: names for field in sorted(self._left)} if self._any else {}
