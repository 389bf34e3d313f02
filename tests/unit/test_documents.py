"""What a step sees of the corpus, which may be larger than its memory."""

from collections.abc import Generator
from pathlib import Path

import polars as pl
import pyarrow as pa

from llambert_etl.corpus.documents import among, as_of, hash_text, hash_texts
from llambert_etl.corpus.sampling import sample
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.schemas import TABLES
from tests.processes.children import Child, race

TASK, LAST = "reviews", Partition("2026-11-30")


def growing(uri: str) -> Generator[None, None, int]:
    """Return by how many megabytes the peak of the process's memory has grown."""
    lake = Lake(uri)
    yield
    before = peak()
    chosen = sample(lake, TASK, LAST, 3, 1)
    assert among(as_of(lake, TASK, LAST), chosen["id"]).collect().height == 3
    return peak() - before


def peak() -> int:
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024


def test_texts_are_read_of_the_chosen_documents_only(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    lake.create_tables()
    for number in range(10, 16):
        day = Partition(f"2026-11-{number}")

        def chunk(first: int, day: Partition = day) -> pa.Table:
            ids = [f"{day}-{each}" for each in range(first, first + 100)]
            fixed = {"task": TASK, "partition": day, "status": "accepted"}
            rows = [
                {**fixed, "id": each, "text": each + "x" * 100_000, "text_hash": hash_text(each + "x" * 100_000)}
                for each in ids
            ]
            return pa.Table.from_pylist(rows, schema=TABLES["documents"].schema)

        staged = lake.stage("documents", TASK, day, map(chunk, range(0, 500, 100)), name="documents")
        manifest = Manifest(step="ingest", task=TASK, partition=day, run="r1")
        lake.replace_partition("documents", TASK, day, staged, commit_key="1", manifest=manifest)
    with Child(growing, lake.uri) as reader:
        assert race([reader])[0] < 200  # of more than 400


def test_texts_are_hashed_together_as_each_is_alone() -> None:
    texts = pl.Series(["a", None, "", "é" * 2_000] * 700)
    assert hash_texts(texts).to_list() == [None if text is None else hash_text(text) for text in texts]
