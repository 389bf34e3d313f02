"""What do the steps that only read cost as a day and the history grow: export, gates, sample, status, empty nights?"""

import argparse
import datetime
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.evidence import EVIDENCE, write
from benchmarks.scale import DAY, OURS, TASK, Cost, Tree, beside, medians, peer, run_command, run_step, world
from benchmarks.timing import interleaved
from laptop.host import executable, server_environment
from laptop.http import answers
from laptop.ports import LOOPBACK, free_ports
from laptop.process import Server
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.schemas import TABLES, TableName

_SEED = 5
_WORDS = 30
_CHUNK = 20_000
_DAY_ROWS = 10_000
_DAY_STEPS = ("check_documents", "check_staged", "export", "sample")
_HISTORY_STEPS = ("status", "training_due")
_NIGHT = (("ingest",), ("check", "documents"), ("training-due",), ("plan", "--run", "night"), ("export",))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readers", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--alone", type=int, nargs="*", default=[], help="sizes at which only this commit is measured")
    parser.add_argument("--days", type=int, nargs="*", default=[1, 100], help="of a history, 10,000 rows each")
    parser.add_argument("--rounds", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=EVIDENCE, help="folder of readers.json")
    arguments = parser.parse_args()
    with peer() as earlier:
        both = [OURS, earlier]
        results: dict[str, object] = {
            "one day": {rows: _day(both, rows, arguments.rounds) for rows in arguments.sizes}
            | {rows: _day([OURS], rows, 1) for rows in arguments.alone},
            f"days of {_DAY_ROWS}": {days: _history(both, days, arguments.rounds) for days in arguments.days},
            "an empty night": _night(both, arguments.rounds),
        }
    write("readers", seeds=[_SEED], results=results, out=arguments.out)


def _day(trees: Sequence[Tree], rows: int, rounds: int) -> dict[str, object]:
    with _filled([DAY], rows) as environment:
        return {step: _in_turns(trees, rounds, partial(_step, environment, step, DAY)) for step in _DAY_STEPS}


def _history(trees: Sequence[Tree], days: int, rounds: int) -> dict[str, object]:
    """Measure on the day after a history, of which all but the last two days were trained on."""
    dates = [datetime.date.fromisoformat(DAY) - datetime.timedelta(days=back) for back in reversed(range(days))]
    names = [Partition(str(date)) for date in dates]
    trained = names[max(0, len(names) - 3)]
    with _filled(names, _DAY_ROWS) as environment:
        return {
            step: _in_turns(trees, rounds, partial(_step, environment, step, DAY, trained=trained))
            for step in _HISTORY_STEPS
        }


def _night(trees: Sequence[Tree], rounds: int) -> dict[str, object]:
    """Measure the commands of a night on which nothing comes, from the start of each interpreter on."""
    with _registry() as uri:

        def night(tree: Tree) -> Cost:
            with tempfile.TemporaryDirectory() as folder:
                environment = world(Path(folder)) | {"LLAMBERT_MLFLOW_URI": uri}
                where = ("--task", TASK, "--partition", DAY)
                costs = [run_command(tree, environment, *command, *where) for command in _NIGHT]
            return sum(costs[1:], start=costs[0])

        return _in_turns(trees, rounds, night)


def _step(environment: Mapping[str, str], step: str, day: str, tree: Tree, **options: object) -> Cost:
    """Run a step. What an export has left there is taken away before: it would not be written again."""
    Path(environment["LLAMBERT_LAKE"], "exports", TASK, "latest.json").unlink(missing_ok=True)
    return run_step(tree, environment, step, day=day, **options)


def _in_turns(trees: Sequence[Tree], rounds: int, run: Callable[[Tree], Cost]) -> dict[str, object]:
    costs: dict[str, list[Cost]] = {tree.name: [] for tree in trees}
    interleaved({tree.name: lambda tree=tree: costs[tree.name].append(run(tree)) for tree in trees}, rounds)  # type: ignore[misc]
    return beside(medians(costs))


@contextmanager
def _filled(days: Sequence[Partition], rows: int) -> Iterator[dict[str, str]]:
    """Yield the environment of a lake that has documents and labels of each day."""
    with tempfile.TemporaryDirectory() as folder:
        environment = world(Path(folder))
        lake = Lake(environment["LLAMBERT_LAKE"])
        lake.create_tables()
        dice = np.random.default_rng(_SEED)
        for number, day in enumerate(days):
            keys: list[pl.DataFrame] = []
            _put(lake, "documents", day, rows, _documents(dice, number * rows, rows, keys))
            _put(lake, "labels", day, rows, _labels(dice, keys))
        print(f"{len(days)} days of {rows} rows are there", flush=True)
        yield environment


def _put(lake: Lake, table: TableName, day: Partition, rows: int, frames: Iterator[pl.DataFrame]) -> None:
    schema = TABLES[table].schema
    fixed = {"task": pl.lit(TASK), "partition": pl.lit(str(day)), "run": pl.lit("benchmark")}
    chunks = (frame.with_columns(**fixed).select(schema.names).to_arrow().cast(schema) for frame in frames)
    staged = lake.stage(table, TASK, day, chunks, name="benchmark")
    step, outcome = ("ingest", "accepted") if table == "documents" else ("publish", "inferred")
    manifest = Manifest(
        step=step,
        task=TASK,
        partition=day,
        run="benchmark",
        rows={"read": rows, outcome: rows},
        facts={"model_version": 1},
    )
    lake.replace_partition(table, TASK, day, staged, commit_key=f"{day}", manifest=manifest)


def _documents(dice: np.random.Generator, first: int, rows: int, keys: list[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    words = np.array(
        ["".join(chr(97 + letter) for letter in dice.integers(0, 26, dice.integers(2, 9))) for _ in range(8000)]
    )
    for start in range(first, first + rows, _CHUNK):
        numbers = range(start, min(start + _CHUNK, first + rows))
        drawn = words[(dice.random((len(numbers), _WORDS)) ** 2 * len(words)).astype(int)]  # the first ones more often
        texts = [" ".join(row) for row in drawn.tolist()]
        hashes = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        key = pl.DataFrame({"id": [f"review-{number}" for number in numbers], "text_hash": hashes})
        keys.append(key)
        place = {"reason": pl.lit(None, pl.String), "source": pl.lit("a.jsonl"), "place": pl.lit("line 1")}
        yield key.with_columns(pl.Series("text", texts), status=pl.lit("accepted"), **place)


def _labels(dice: np.random.Generator, keys: list[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    for key in keys:
        positive = pl.Series(dice.beta(0.5, 0.5, key.height))
        pairs = [
            pl.struct(pl.lit(label).alias("label"), probability.alias("probability"))
            for label, probability in (("positive", pl.col("p")), ("negative", 1.0 - pl.col("p")))
        ]
        yield key.with_columns(p=positive).with_columns(
            label=pl.when(pl.col("p") >= 0.5).then(pl.lit("positive")).otherwise(pl.lit("negative")),
            confidence=pl.max_horizontal(pl.col("p"), 1.0 - pl.col("p")),
            probabilities=pl.concat_list(pairs),
            model_name=pl.lit(f"llambert.{TASK}"),
            model_version=pl.lit(1, pl.Int64),
            config_hash=pl.lit("0" * 16),
        )


@contextmanager
def _registry() -> Iterator[str]:
    """Yield the address of an MLflow server without any model."""
    with tempfile.TemporaryDirectory() as folder:
        (port,) = free_ports(1)
        uri = f"http://{LOOPBACK}:{port}"
        argv = [executable("mlflow"), "server", f"--host={LOOPBACK}", f"--port={port}", "--workers=1"]
        store = {"MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db"}
        server = Server(
            "mlflow",
            [*argv, f"--artifacts-destination={folder}/artifacts"],
            env={**server_environment(), **store},
            folder=Path(folder),
            ready=lambda: answers(f"{uri}/health"),
            deadline=300.0,
        )
        server.start()
        try:
            yield uri
        finally:
            server.stop()


if __name__ == "__main__":
    main()
