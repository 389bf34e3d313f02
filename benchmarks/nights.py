"""What do the steps of a label run cost around the model, as a day, its shards, the history and the log grow?"""

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.evidence import EVIDENCE, write
from benchmarks.scale import (
    DAY,
    OURS,
    TASK,
    Cost,
    Tree,
    beside,
    fill,
    ingested,
    labelled,
    landing_file,
    medians,
    peer,
    planned,
    run_command,
    safe,
    size,
    world,
)

_STEPS = ("plan", "label", "check_labels", "publish")
_HISTORY_DAYS = 365
_PARTITIONS = 1_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nights", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000], help="documents of a day")
    parser.add_argument("--alone", type=int, nargs="*", default=[], help="sizes at which only this commit is measured")
    parser.add_argument("--shards", type=int, nargs="*", default=[8, 64], help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--history", type=int, default=1_000_000, help="labels of a year (default: %(default)s)")
    parser.add_argument("--night", type=int, default=10_000, help="documents of a night (default: %(default)s)")
    parser.add_argument("--again", type=int, default=100, help="of them in the history (default: %(default)s)")
    parser.add_argument("--commits", type=int, default=3_000, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=EVIDENCE, help="folder of nights.json")
    given = parser.parse_args()
    with peer() as theirs, tempfile.TemporaryDirectory(prefix="llambert-nights-") as scratch:
        folder, trees = Path(scratch), (OURS, theirs)
        results = {
            "night": _night(folder, trees, given.history, given.night, given.again),
            "log": _log(folder, trees, given.commits),
            "day": {rows: _day(folder, trees, rows, given.shards, given.rounds) for rows in given.rows}
            | {rows: _day(folder, [OURS], rows, given.shards, 1) for rows in given.alone},
        }
    write("nights", seeds=[5], results=results, out=given.out)


def _day(scratch: Path, trees: Sequence[Tree], rows: int, shards: Sequence[int], rounds: int) -> dict[str, object]:
    """Label a day in so many shards, without inference; the trees take turns."""
    worlds = {tree: ingested(scratch / f"{rows}-{safe(tree)}", tree, rows) for tree in trees}
    found: dict[str, object] = {}
    for number in shards:
        costs: dict[Tree, list[dict[str, Cost]]] = {tree: [] for tree in trees}
        for turn in range(rounds):
            for tree in trees if turn % 2 == 0 else reversed(trees):
                with _copy(worlds[tree]) as environment:
                    costs[tree].append(labelled(tree, environment, number))
        found[f"{number} shards"] = _beside(costs)
    for environment in worlds.values():
        shutil.rmtree(Path(environment["LLAMBERT_LAKE"]).parent)
    return found


def _beside(costs: Mapping[Tree, Sequence[Mapping[str, Cost]]]) -> dict[str, object]:
    """Return the medians of each step and of all together, and how much more theirs take."""
    steps = {tree.name: {step: [each[step] for each in found] for step in _STEPS} for tree, found in costs.items()}
    totals = {name: [sum(each, Cost(0, 0, 0)) for each in zip(*by.values(), strict=True)] for name, by in steps.items()}
    return {"steps": {name: medians(by) for name, by in steps.items()}, "all": beside(medians(totals))}


def _night(scratch: Path, trees: Sequence[Tree], history: int, night: int, again: int) -> dict[str, object]:
    """Label a night's documents on an empty lake, and on one with a year of labels that this tree has written."""
    found: dict[str, object] = {"documents": night, "of them labelled before": again, "labels of a year": history}
    year = world(scratch / "year")
    landed = landing_file(scratch / "year", night)
    days = {"days": _HISTORY_DAYS, "rows": history // _HISTORY_DAYS}
    fill(OURS, year, "history", landed=landed, known=again, **days)
    run_command(OURS, year, "ingest", "--task", TASK, "--partition", DAY, "--run", "benchmark")
    for tree in trees:
        found[f"{tree.name}, an empty lake"] = _told(
            labelled(tree, ingested(scratch / f"night-{safe(tree)}", tree, night), 1)
        )
        with _copy(year) as full:
            if tree is OURS:
                found[f"{tree.name}, the first night on it"] = _told({"plan": planned(tree, full, "first")})
                found["bytes of the index of a row"] = round(size(Path(full["LLAMBERT_LAKE"]) / "_hashes") / history, 2)
            found[f"{tree.name}, on it"] = _told(labelled(tree, full, 1))
    shutil.rmtree(scratch / "year")
    return found


def _told(costs: Mapping[str, Cost]) -> dict[str, dict[str, float]]:
    return medians({step: [cost] for step, cost in {**costs, "all": sum(costs.values(), Cost(0, 0, 0))}.items()})


def _log(scratch: Path, trees: Sequence[Tree], commits: int) -> dict[str, object]:
    """Commit to one partition after the other, spread what was written over a year, and maintain the lake."""
    found: dict[str, object] = {"commits": commits, "partitions": _PARTITIONS}
    for tree in trees:
        environment = world(scratch / f"log-{safe(tree)}")
        half = commits // 2
        costs = [
            fill(tree, environment, "commits", first=first, last=first + half, partitions=_PARTITIONS)
            for first in (0, half)
        ]
        log = Path(environment["LLAMBERT_LAKE"]) / "labels" / "_delta_log"
        before = size(log)
        fill(tree, environment, "upkeep", days=360)
        found[tree.name] = {
            "cpu_ms_of_a_commit_in_each_half": [round(cost.cpu_seconds * 1000 / half, 1) for cost in costs],
            "mb_of_the_log": round(before / 1e6, 1),
            "mb_of_the_log_after_maintain": round(size(log) / 1e6, 1),
        }
    return found


@contextmanager
def _copy(environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Give a copy of a world's lake, for as long as the context lasts."""
    lake = Path(environment["LLAMBERT_LAKE"])
    copied = shutil.copytree(lake, lake.with_name("copy"))
    try:
        yield {**environment, "LLAMBERT_LAKE": str(copied)}
    finally:
        shutil.rmtree(copied)


if __name__ == "__main__":
    main()
