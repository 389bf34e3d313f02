"""The rows of one drop on their way into the lake, and their count."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import polars as pl
import pyarrow as pa

from llambert_etl.config import fingerprint
from llambert_etl.corpus.documents import hash_texts
from llambert_etl.corpus.forgotten import Forgotten
from llambert_etl.facts import Ingested
from llambert_etl.manifest import Manifest
from llambert_etl.run import Run
from llambert_etl.schemas import TABLES, DocumentStatus
from llambert_etl.sources.clean import CLEANER_VERSION, clean, clean_columns
from llambert_etl.sources.columns import Columns, Row, gathered
from llambert_etl.sources.drop import Drop
from llambert_etl.sources.records import Missing, Reason, Record, Refusal
from llambert_etl.sources.seen import SeenIds
from llambert_etl.wording import MAX_NAME_CHARS, printable

_CHUNK_ROWS = 131_072
_CHUNK_BYTES = 32 << 20
_MAX_FIELDS = 50
_REASONS = {str(reason): reason for reason in Reason}
_CLEANED = {"place": pl.String, "id": pl.String, "text": pl.String, "reason": pl.String}


class Tally:
    """The rows of one drop on their way into the lake, and their count."""

    def __init__(self, run: Run, forgotten: Forgotten) -> None:
        self._source = run.task.source
        self._fixed = {"task": run.task.name, "partition": str(run.partition), "run": run.name}
        self._seen, self._forgotten = SeenIds(), forgotten
        self._content = 0
        self._rows_hash = hashlib.blake2b()
        self._bytes = 0
        self.files = 0
        self._sources: set[str] = set()
        self._accepted = 0
        self._files_refused: set[str] = set()
        self._absent = _AbsentFields()
        self.reasons: Counter[str] = Counter()

    @property
    def rows(self) -> dict[str, int]:
        rejected = self.reasons.total()
        return {"read": self._accepted + rejected, "accepted": self._accepted, "rejected": rejected}

    @property
    def sources(self) -> set[str]:
        """Return the files that could be read whole, or the table: what is in no row of theirs is not there."""
        return self._sources - self._files_refused

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
        held: list[pl.DataFrame] = []
        rows, size = 0, 0
        for frame in self._read(drop):
            more = int(frame["text"].str.len_bytes().sum())
            if held and (rows + frame.height > _CHUNK_ROWS or size + more > _CHUNK_BYTES):
                yield self._documents(pl.concat(held), keyed=drop.key is not None)
                held, rows, size = [], 0, 0
            held.append(frame)
            rows, size = rows + frame.height, size + more
        if held:
            yield self._documents(pl.concat(held), keyed=drop.key is not None)

    def _read(self, drop: Drop) -> Iterator[pl.DataFrame]:
        """Yield what the drop holds, cleaned, each row with the file or the table that holds it."""
        for piece in drop.pieces:
            self._sources.add(piece.name)
            if piece.size is not None:
                self.files += 1
                self._bytes += piece.size
            for columns in gathered(piece.rows()):
                yield self._cleaned(columns, piece.name).with_columns(pl.lit(piece.name).alias("source"))

    def _cleaned(self, columns: Columns, source: str) -> pl.DataFrame:
        cleaned = clean_columns(columns, self._source.max_chars).with_columns(
            pl.lit(None, pl.String).alias("reason"), pl.int_range(pl.len()).alias("at")
        )
        sound, others = cleaned.filter("sound"), cleaned.filter(~pl.col("sound"))["at"].to_list()
        if sound.height:
            self._absent.see_all()
        if not others:
            return cleaned.select(*_CLEANED)
        looked_at = pl.DataFrame([self._row(columns.row(at), source) for at in others], _CLEANED, orient="row")
        both = [sound.select(*_CLEANED, "at"), looked_at.with_columns(pl.Series("at", others, dtype=pl.Int64))]
        return pl.concat(both).sort("at").drop("at")

    def _row(self, found: Row, source: str) -> tuple[str, str | None, str | None, str | None]:
        if isinstance(found, Refusal):
            if found.reason.startswith("file_"):
                self._files_refused.add(source)
            return found.place, None, None, found.reason
        self._absent.see(found)
        return (found.place, *clean(found, self._source.max_chars))

    def _documents(self, rows: pl.DataFrame, *, keyed: bool) -> pa.Table:
        """Hash texts and claim ids."""
        gone = pl.col("id").is_in(self._forgotten.among(rows["id"])).fill_null(False)
        rows = rows.with_columns(
            pl.when(gone).then(pl.lit(Reason.FORGOTTEN.value)).otherwise("reason").alias("reason"),
            *(pl.when(~gone).then(name).alias(name) for name in ("id", "text")),
        )
        rows = rows.with_columns(hash_texts(rows["text"]).alias("text_hash"))
        sound = rows["reason"].is_null()
        claimed = self._seen.claim(rows["id"].filter(sound), rows["text_hash"].filter(sound))
        rows = rows.with_columns(rows["reason"].scatter(sound.arg_true(), claimed))
        accepted = pl.col("reason").is_null()
        found = rows.select("id", "text_hash", "reason")
        self._count(found.filter(accepted), found["reason"].drop_nulls(), None if keyed else found)
        statuses = (
            pl.when(accepted)
            .then(pl.lit(DocumentStatus.ACCEPTED.value))
            .otherwise(pl.lit(DocumentStatus.REJECTED.value))
        )
        fixed = [pl.lit(value).alias(name) for name, value in self._fixed.items()]
        full = rows.with_columns(statuses.alias("status"), pl.when(accepted).then("text").alias("text"), *fixed)
        return full.select(TABLES["documents"].schema.names).to_arrow(compat_level=pl.CompatLevel.newest())

    def _count(self, accepted: pl.DataFrame, reasons: pl.Series, hashed: pl.DataFrame | None) -> None:
        self._accepted += accepted.height
        self.reasons.update(reasons.to_list())
        # A sum, so that the order of files does not matter. (Another version of polars may hash otherwise: to that, a
        # day that is read again has changed.)
        hashes = accepted.select((pl.col("text_hash") + pl.col("id")).hash()).to_series().to_numpy()
        self._content = (self._content + int(hashes.sum(dtype=np.uint64))) % 2**64
        if hashed is not None:
            for key, text_hash, reason in hashed.iter_rows():
                said = (key, text_hash, _REASONS.get(reason))
                self._rows_hash.update(repr(said).encode())


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

    def see_all(self) -> None:
        """Count rows that have both."""
        self._left.clear()
        self._any = True

    def found(self) -> dict[str, list[str]]:
        names = sorted(self._seen)[:_MAX_FIELDS]
        return {field: names for field in sorted(self._left)} if self._any else {}
