"""Whatever is wrong with a file, reading it ends: in rows, in refusals with a reason, or in one of the three errors."""

import gzip
import io
import random
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from llambert_etl.errors import DataError
from llambert_etl.sources.clean import clean
from llambert_etl.sources.readers import SUFFIXES
from llambert_etl.sources.records import Record, Refusal
from tests.given.poison import jsonl, reviews
from tests.given.rows import SOURCE, read

ROWS = reviews(60)
CSV = b"id,text\n" + b"".join(f'{row["id"]},"{row["text"]}"\n'.encode() for row in ROWS)
PACKED: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": zstandard.compress}
PLAIN = (".jsonl", ".ndjson", ".csv")
PAGES: dict[str, dict[str, object]] = {
    "dictionary": {},
    "plain": {"use_dictionary": False, "compression": "none"},
    "delta": {
        "use_dictionary": False,
        "column_encoding": {"id": "DELTA_BYTE_ARRAY", "text": "DELTA_LENGTH_BYTE_ARRAY"},
    },
    "second version": {"data_page_version": "2.0", "compression": "zstd"},
}


def content_of(suffix: str) -> bytes:
    plain = CSV if suffix.startswith(".csv") else jsonl(*ROWS)
    return PACKED.get(suffix[suffix.rindex(".") :], bytes)(plain)


def parquet_of(**options: object) -> bytes:
    sink = io.BytesIO()
    table = pa.table({name: [row[name] for row in ROWS] for name in ("id", "text")})
    pq.write_table(table, sink, row_group_size=20, data_page_size=128, write_page_checksum=True, **options)
    return sink.getvalue()


def read_if_declared(name: str, content: bytes) -> list[Record | Refusal] | None:
    """Return the rows; None where the columns that the file declares are what was damaged."""
    try:
        rows = read(name, content)
    except DataError:
        return None
    for row in rows:
        if isinstance(row, Record):
            clean(row, SOURCE.max_chars)
    return rows


def damaged(content: bytes, seed: str) -> Iterator[tuple[int, bytes]]:
    """Yield the content changed in every part of it, each with the first byte that is not as it was."""
    draw = random.Random(seed)  # noqa: S311 - the same damage every time
    for part in range(40):
        at = draw.randrange(part * len(content) // 40, (part + 1) * len(content) // 40)
        yield at, content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]
        yield at, content[:at]
        yield at, content[:at] + draw.randbytes(draw.randrange(1, 30)) + content[at:]


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".parquet"])
def test_a_damaged_text_file_keeps_the_lines_before_the_damage(suffix: str) -> None:
    content = content_of(suffix)
    sound, header = read_if_declared(f"a{suffix}", content) or [], suffix.startswith(".csv")
    for at, changed in damaged(content, suffix):
        rows = read_if_declared(f"a{suffix}", changed)
        if rows is None:
            assert header
        elif suffix in PLAIN:
            kept = max(content[:at].count(b"\n") - header, 0)
            assert rows[:kept] == sound[:kept]
        else:
            assert rows


@pytest.mark.parametrize("pages", PAGES)
def test_a_damaged_parquet_file_keeps_the_row_groups_before_the_damage(pages: str) -> None:
    content = parquet_of(**PAGES[pages])
    sound, ends = read_if_declared("a.parquet", content) or [], group_ends(content)
    for at, changed in damaged(content, pages):
        rows, in_pages = read_if_declared("a.parquet", changed), len(changed) == len(content) and at < ends[-1]
        if in_pages:
            kept = 20 * sum(end <= at for end in ends)
            assert rows is not None
            assert rows[:kept] == sound[:kept]
            assert len(rows) == len(sound)
        assert rows != []
        assert {row for row in rows or [] if isinstance(row, Record)} <= set(sound)


def group_ends(content: bytes) -> list[int]:
    """Return where the pages of each row group end."""
    footer = pq.read_metadata(io.BytesIO(content))
    last = [footer.row_group(group).column(1) for group in range(footer.num_row_groups)]
    return [(chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size for chunk in last]
