"""Who reads tables and what its failing is told as: the store's and damage are the lake's to tell, our own are bugs."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import pyarrow as pa
import pytest
from polars.exceptions import PolarsError

from laptop.stack import REPOSITORY
from llambert_etl.errors import DataError
from llambert_etl.labelling.plan import Plan
from llambert_etl.lake import Lake, collect, count, stream
from llambert_etl.run import Run
from llambert_etl.schemas import TABLES
from llambert_etl.settings import Settings
from llambert_etl.steps.plan import plan
from llambert_etl.store.folders import Folder
from tests.given.documents import DAY, TASK, append, content, documents, manifest
from tests.given.labelling import Parity, Shelf, drop, run_shard
from tests.given.tasks import make_task

# What reads a lazy frame, or makes one of a table. Frames in memory are eager.
_READS = {"collect", "collect_all", "collect_async", "collect_batches", "collect_schema"}
_TABLES = {"scan_delta", "read_delta", "scan_parquet"}
_MAY = {
    ("llambert_etl/lake/reading.py", "collect"),
    ("llambert_etl/lake/reading.py", "collect_batches"),
    ("llambert_etl/lake/reading.py", "scan_delta"),
    ("llambert_etl/lake/reading.py", "scan_parquet"),  # of files that no version need name
    ("llambert_etl/lake/keys.py", "scan_parquet"),  # of the files that one version names and an earlier did not
}

Node = TypeVar("Node", bound=ast.AST)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path / "lake"))
    lake.create_tables()
    return lake


def _nodes(kind: type[Node]) -> Iterator[tuple[str, Node]]:
    """Yield each such node of the package, the laptop's servers and the benchmarks, with the file that it is in."""
    for part in ("llambert_etl", "laptop", "benchmarks"):
        for path in (REPOSITORY / part).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, kind):
                    yield str(path.relative_to(REPOSITORY)), node


def test_nothing_but_the_lake_reads_a_lazy_frame() -> None:
    called = {
        (file, node.func.attr)
        for file, node in _nodes(ast.Call)
        if isinstance(node.func, ast.Attribute) and ast.unparse(node.func) != "gc.collect"
    }
    assert {(file, name) for file, name in called if name in _READS | _TABLES or name.startswith("sink_")} == _MAY


def test_only_the_store_and_the_lake_know_what_the_failing_of_a_store_looks_like() -> None:
    users = {file for file, node in _nodes(ast.ImportFrom) if node.module == "llambert_etl.store.faults"}
    users |= {file for file, node in _nodes(ast.alias) if node.name in ("store_faults", "llambert_etl.store.faults")}
    assert {Path(file).parent.as_posix() for file in users} == {"llambert_etl/lake", "llambert_etl/store"}


# Errors of ours: a value that reads like a store's sentence makes no difference.

_VALUE = 'parquet: corrupt, 404 not found, AccessDenied: "CANARY"'


@pytest.mark.parametrize(
    "mistake",
    [
        pl.col("text").cast(pl.Int64),
        pl.col("text").str.to_integer(),
        pl.col("text").str.json_decode(pl.Struct({"a": pl.Int64})),
        pl.col("no_such_column"),
        pl.col("text").replace_strict({"a": 1}),
        pl.col("text").str.contains("("),
    ],
    ids=["cast", "integer", "json", "column", "mapping", "pattern"],
)
def test_an_error_of_ours_is_told_as_no_fault_of_the_store(lake: Lake, mistake: pl.Expr) -> None:
    rows = documents("a").set_column(TABLES["documents"].schema.names.index("text"), "text", pa.array([_VALUE]))
    lake.append_once("documents", TASK, DAY, rows, manifest=manifest("r1"))
    frame = lake.scan("documents", TASK).select(mistake)
    for read in (collect, lambda frame: list(stream(frame, 1, 10))):
        with pytest.raises(PolarsError):
            read(frame)


# Damage: where polars 2.1.0 panics its batches end as if there were no more rows.


def _overwritten(whole: bytes) -> bytes:
    return whole[:60] + bytes(60) + whole[120:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"",
        lambda whole: bytes(len(whole)),
        _overwritten,
        lambda whole: whole[:-200] + bytes(192) + whole[-8:],
    ],
    ids=["cut", "empty", "zeros", "overwritten", "footer"],
)
def test_a_damaged_file_is_told_with_its_table_and_never_gives_fewer_rows(
    lake: Lake, damage: Callable[[bytes], bytes]
) -> None:
    append(lake, "abc")
    append(lake, "def")
    frame = lake.scan("documents", TASK)
    assert sorted(row for each in stream(frame, 6, 2) for row in each["id"]) == list("abcdef")
    file = min(Path(lake.uri, "documents").glob("task=*/*/*.parquet"))
    file.write_bytes(damage(file.read_bytes()))
    before = lake.version("documents")
    reads: list[Callable[[], object]] = [
        lambda: collect(frame),
        lambda: collect(frame, engine="streaming"),
        lambda: list(stream(frame, 6, 2)),
        lambda: lake.rewrite_partition(
            "documents", TASK, DAY, lambda rows: rows, commit_key=None, manifest=manifest("r1")
        ),
    ]
    for read in reads:
        with pytest.raises(DataError, match="/lake/documents.*: the table is damaged"):
            read()
    assert lake.version("documents") == before


def test_a_read_that_fails_names_every_table_that_it_is_about(lake: Lake) -> None:
    task = make_task()
    drop(lake, task, ["a", "b"])
    frame = lake.scan("documents", task.name)
    for file in Path(lake.uri, "documents").glob("task=*/*/*.parquet"):
        file.unlink()
    for read in (collect, count, lambda frame: list(stream(frame, 2, 1))):
        with pytest.raises(DataError, match=f"^{lake.uri}/documents: a file is gone that this version"):
            read(frame)


# What whoever gives the rows raises is theirs: a source, an encoder, a hub.


class Trouble(OSError):
    """An error of a producer, of a class that the store's are of too."""


def _failing(first: Any) -> Iterator[Any]:
    yield first
    raise Trouble("the source broke off: 503 SlowDown")


def test_an_error_of_whoever_gives_rows_or_bytes_passes_as_it_is(lake: Lake) -> None:
    with pytest.raises(Trouble):
        lake.stage("documents", TASK, DAY, _failing(documents("a")), name="x")
    with pytest.raises(Trouble):
        Folder(lake.storage, "_models", "m", "1").write("file", _failing(b"a"))
    assert content(lake) == ""
    assert lake.storage.list("_models") == []


def test_an_encoder_that_cannot_be_opened_is_no_fault_of_the_store(lake: Lake, tmp_path: Path) -> None:
    task, settings = make_task(), Settings(lake=lake.uri, include=tmp_path, state=tmp_path)
    drop(lake, task, ["a", "b"])
    plan(Run(task, DAY, "r1"), lake=lake, registry=Shelf(task, 1), settings=settings)  # type: ignore[arg-type]

    def load(_: Plan) -> Parity:
        raise Trouble("no CUDA device found")

    with pytest.raises(Trouble):
        run_shard(lake, task, settings, DAY, "r1", 0, load)
