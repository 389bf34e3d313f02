"""Rows are read and cleaned in columns, with the verdict that each of them would have by itself."""

import io
import unicodedata
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llambert_etl.corpus.forgotten import Forgotten
from llambert_etl.lake import Lake
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.sources.clean import SEEN
from llambert_etl.sources.columns import Columns
from llambert_etl.sources.drop import Drop, Piece
from llambert_etl.sources.readers import read_rows
from llambert_etl.sources.records import Limits, Reason, UnreadableError
from llambert_etl.sources.streams import whole_lines
from llambert_etl.sources.tally import Tally
from tests.given.plain import verdicts
from tests.given.poison import jsonl, parquet, reviews
from tests.given.rows import MAX_CHARS, ODD, File, csv_files, jsonl_files, parquet_files
from tests.given.tasks import make_task

TASK = make_task(source={"max_chars": MAX_CHARS})


class Given(Drop):
    """Files that are given."""

    location, key = "here", "key"

    def __init__(self, files: list[File]) -> None:
        self._files, self.one_by_one = files, 0

    @property
    def pieces(self) -> list[Piece]:
        return [Piece(name, len(content), partial(self._rows, name, content)) for name, content in self._files]

    def _rows(self, name: str, content: bytes) -> Any:
        raw: Any = io.BytesIO(content)
        for found in read_rows(raw, name, len(content), TASK.source, Limits()):
            if isinstance(found, Columns):
                yield found._replace(row=partial(self._row, found))
            else:
                self.one_by_one += not name.endswith(".csv")
                yield found

    def _row(self, found: Columns, index: int) -> Any:
        self.one_by_one += 1
        return found.row(index)


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Forgotten:
    return Forgotten(Lake(str(tmp_path_factory.mktemp("lake"))), TASK.name)


def read(files: list[File], nothing: Forgotten) -> tuple[list[Any], int]:
    """Return what becomes of each row, and how many were looked at one by one."""
    drop = Given(files)
    chunks = list(Tally(Run(TASK, Partition("2026-11-10"), "r1"), nothing).chunks(drop))
    rows = pl.concat([pl.DataFrame(pl.from_arrow(chunk)) for chunk in chunks]) if chunks else pl.DataFrame()
    return rows.select("place", "id", "text_hash", "reason").rows() if chunks else [], drop.one_by_one


@settings(max_examples=120, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(jsonl_files(), jsonl_files(), csv_files(), parquet_files()), min_size=1, max_size=2))
def test_each_row_has_the_verdict_that_the_rules_have_for_it_alone(nothing: Forgotten, files: list[File]) -> None:
    assert read(files, nothing)[0] == list(verdicts(files, MAX_CHARS))


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: str(odd)[:60])
def test_a_line_that_parsers_read_differently_has_the_verdict_that_json_has_of_it(
    nothing: Forgotten, odd: bytes
) -> None:
    file = "a.jsonl", jsonl(*reviews(2)) + odd + b"\n" + jsonl(*reviews(2, start=2))
    assert read([file], nothing)[0] == list(verdicts([file], MAX_CHARS))


SOUND: dict[str, Callable[[list[tuple[object, str]]], File]] = {
    "jsonl": lambda rows: ("a.jsonl", jsonl(*({"id": key, "text": text, "more": [1]} for key, text in rows))),
    "jsonl of windows": lambda rows: (
        "a.jsonl",
        b"\xef\xbb\xbf" + jsonl(*({"id": key, "text": text} for key, text in rows)).replace(b"\n", b"\r\n"),
    ),
    "parquet": lambda rows: ("a.parquet", parquet(id=[key for key, _ in rows], text=[text for _, text in rows])),
    "csv": lambda rows: ("a.csv", "".join(f'{key},"{text}"\n' for key, text in [("id", "text"), *rows]).encode()),
}


@pytest.mark.parametrize("kind", SOUND)
@pytest.mark.parametrize("key", [str, int], ids=["strings", "integers"])
def test_no_sound_row_is_looked_at_by_itself(nothing: Forgotten, kind: str, key: type) -> None:
    words = ["a film", "két film", "cafe\u0301", "良い映画", "фильм", "فيلم", "เรื่อง"]
    rows = [(key(number), f"{words[number % 7]}") for number in range(20_000)]
    found, one_by_one = read([SOUND[kind](rows)], nothing)
    assert [row[3] for row in found] == [None] * 20_000
    assert one_by_one == 0


def test_a_bad_line_costs_no_more_than_some_of_its_neighbours(nothing: Forgotten) -> None:
    lines = jsonl(*reviews(10_000)) + b"{\n" + jsonl(*reviews(10_000, start=10_000))
    found, one_by_one = read([("a.jsonl", lines)], nothing)
    assert [row for row in found if row[3]] == [("line 10001", None, None, "line_not_json")]
    assert one_by_one < 200


def test_what_counts_as_seen_is_seen() -> None:
    """In Python's Unicode, by which a row alone is judged."""
    every = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    taken = pl.Series(every).filter(pl.Series(every).str.contains(SEEN)).to_list()
    assert [each for each in taken if each.isspace() or unicodedata.category(each)[0] in "CZ"] == []
    assert len(taken) > 40_000


@pytest.mark.parametrize("size", [1, 3, 10, 1_000])
def test_lines_are_whole_however_their_bytes_come(size: int) -> None:
    content = b"one\n\n" + b"two" * 10 + b"\r\n" + b"x" * 50 + b"\nfour\n" + b"y" * 60 + b"\n" + b"z" * 70
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    lines = [line for block in whole_lines(pieces, 40) for line in block.each(40)]
    expected, offset = [], 0
    for number, line in enumerate(content.split(b"\n"), 1):
        expected.append((number, offset, line if len(line) <= 40 else None))
        offset += len(line) + 1
    assert lines == expected


def test_lines_before_a_fault_come_before_it() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"one\ntwo\nth"
        raise UnreadableError(Reason.FILE_TRUNCATED)

    found = whole_lines(pieces(), 40)
    assert [line.data for line in next(found).each(40)] == [b"one", b"two"]
    with pytest.raises(UnreadableError):
        next(found)
