"""Rows are read and cleaned in columns, with the verdict that each of them would have by itself."""

import io
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
from llambert_etl.sources.columns import Columns
from llambert_etl.sources.drop import Drop, Piece
from llambert_etl.sources.readers import read_rows
from llambert_etl.sources.records import Limits
from llambert_etl.sources.tally import Tally
from tests.given.plain import verdicts
from tests.given.rows import MAX_CHARS, File, csv_files, jsonl_files, parquet_files
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
                self.one_by_one += 1
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


@settings(max_examples=200, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(jsonl_files(), jsonl_files(), csv_files(), parquet_files()), min_size=1, max_size=2))
def test_each_row_has_the_verdict_that_the_rules_have_for_it_alone(nothing: Forgotten, files: list[File]) -> None:
    assert read(files, nothing)[0] == list(verdicts(files, MAX_CHARS))
