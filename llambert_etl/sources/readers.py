"""Finds the reader of a file by its name."""

import io

from llambert_etl.config import Source
from llambert_etl.sources.csv_rows import read_csv
from llambert_etl.sources.drop import Rows
from llambert_etl.sources.jsonl import read_jsonl
from llambert_etl.sources.parquet import read_parquet
from llambert_etl.sources.records import Limits, Reason, Refusal
from llambert_etl.sources.streams import text_pieces, whole_lines

SUFFIXES = (*(kind + packed for kind in (".jsonl", ".ndjson", ".csv") for packed in ("", ".gz", ".zst")), ".parquet")


def read_rows(raw: io.RawIOBase, name: str, size: int, source: Source, limits: Limits) -> Rows:
    """Yield each row of a file as a record or a refusal, or many in columns, in bounded memory.

    Raise DataError when a file that declares its columns (CSV, Parquet) lacks one: the producer's schema has changed.
    """
    lower = name.lower()
    if lower.endswith(".parquet"):
        yield from read_parquet(raw, name, size, source, limits)
        return
    if not lower.endswith(SUFFIXES):
        marker = name.rpartition("/")[2].startswith(("_", "."))
        yield Refusal("line 1", Reason.MARKER if marker else Reason.FILE_WRONG_KIND)
        return
    # A text of `max_chars` may be written as twelve bytes a character (an escaped surrogate pair).
    limit = max(limits.line_bytes, 12 * source.max_chars)
    blocks = whole_lines(text_pieces(raw, lower, limits), limit)
    if ".csv" in lower[-8:]:
        yield from read_csv(blocks, name, source, limit)
    else:
        yield from read_jsonl(blocks, source, limit)
