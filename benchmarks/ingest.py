"""What does ingest cost, against an earlier commit, DuckDB doing the least of it, and datatrove's reader and writer?"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.evidence import EVIDENCE, write
from benchmarks.scale import (
    DAY,
    OURS,
    TASK,
    Cost,
    Tree,
    beside,
    landing_file,
    medians,
    peer,
    run_command,
    run_program,
    world,
)

_SEED = 1
# The Python of an environment with `datatrove[io]`, which wants other versions than this project.
_DATATROVE = os.environ.get("LLAMBERT_BENCH_DATATROVE", "")
_KINDS = ("jsonl.gz", "parquet", "csv", "parquet of one row group")

_DUCKDB = """
import duckdb, sys
read = {"parquet": "read_parquet", "csv": "read_csv"}.get(sys.argv[1].rpartition(".")[2], "read_json_auto")
duckdb.sql(f"COPY (SELECT id, nfc_normalize(text) AS text, sha256(nfc_normalize(text)) AS text_hash "
           f"FROM {read}('{sys.argv[1]}')) TO '{sys.argv[2]}' (FORMAT parquet, COMPRESSION zstd)")
"""
_DATATROVE_COPY = """
import sys
from pathlib import Path
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import CSVReader, JsonlReader, ParquetReader
from datatrove.pipeline.writers import ParquetWriter
file, out = Path(sys.argv[1]), sys.argv[2]
reader = {".parquet": ParquetReader, ".csv": CSVReader}.get(file.suffix, JsonlReader)
steps = [reader(str(file.parent), glob_pattern=file.name), ParquetWriter(out, compression="zstd")]
LocalPipelineExecutor(steps, logging_dir=out + "-log").run()
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__)
    parser.add_argument(
        "--rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000], help="default: %(default)s"
    )
    parser.add_argument("--alone", type=int, nargs="*", default=[], help="sizes at which only this commit is measured")
    parser.add_argument("--kinds", nargs="+", choices=_KINDS, default=_KINDS[:3], help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=EVIDENCE, help="folder of ingest.json")
    arguments = parser.parse_args()
    if not _DATATROVE:
        print("without datatrove: LLAMBERT_BENCH_DATATROVE is not set")
    with peer() as tree:
        results = {
            kind: {rows: _compare([OURS, tree], rows, kind, arguments.rounds) for rows in arguments.rows}
            | {rows: _compare([OURS], rows, kind, 1) for rows in arguments.alone}
            for kind in arguments.kinds
        }
    write("ingest", seeds=[_SEED], results=results, out=arguments.out)


def _compare(trees: Sequence[Tree], rows: int, kind: str, rounds: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        file = _file(folder, rows, kind)
        engines: dict[str, Callable[[Path, Path], Cost]] = {tree.name: partial(_ingest, tree) for tree in trees}
        if len(trees) > 1:
            engines["DuckDB"] = partial(_program, sys.executable, _DUCKDB)  # read, NFC, sha256, write
        if len(trees) > 1 and _DATATROVE:
            engines["datatrove"] = partial(_program, _DATATROVE, _DATATROVE_COPY)  # read, write
        costs: dict[str, list[Cost]] = {name: [] for name in engines}
        for number in range(rounds):
            for name in list(engines) if number % 2 == 0 else reversed(list(engines)):
                with tempfile.TemporaryDirectory(dir=folder) as own:
                    costs[name].append(engines[name](file, Path(own)))
                print(f"{rows} {kind}, round {number + 1}: {name} {costs[name][-1]}", flush=True)
    return beside(medians(costs))


def _file(folder: Path, rows: int, kind: str) -> Path:
    file = landing_file(folder, rows, "parquet" if kind == _KINDS[-1] else kind)  # type: ignore[arg-type]
    if kind == _KINDS[-1]:  # as pandas and pyarrow write it unless told otherwise
        pq.write_table(pq.read_table(file), file, row_group_size=rows)
    return file


def _ingest(tree: Tree, file: Path, folder: Path) -> Cost:
    environment = world(folder)
    landing = folder / "landing" / DAY
    landing.mkdir()
    shutil.copy(file, landing)
    return run_command(tree, environment, "ingest", "--task", TASK, "--partition", DAY)


def _program(python: str, code: str, file: Path, folder: Path) -> Cost:
    return run_program(Path(python).name, {}, python, "-c", code, str(file), str(folder / "out.parquet"))


if __name__ == "__main__":
    main()
