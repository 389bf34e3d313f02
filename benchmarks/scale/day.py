"""A day that is ingested, and labelled without inference, by one of the trees."""

from collections.abc import Mapping
from pathlib import Path

from benchmarks.scale.corpus import DAY, TASK, landing_file, world
from benchmarks.scale.trees import Cost, Tree, run_command, run_step


def ingested(folder: Path, tree: Tree, rows: int) -> dict[str, str]:
    environment = world(folder)
    landing_file(folder, rows)
    run_command(tree, environment, "init")
    run_command(tree, environment, "ingest", "--task", TASK, "--partition", DAY, "--run", "benchmark")
    return environment


def labelled(tree: Tree, environment: Mapping[str, str], shards: int, **more: object) -> dict[str, Cost]:
    costs = {"plan": planned(tree, environment, "benchmark", shards)}
    costs["label"] = run_step(tree, environment, "label", day=DAY, shards=f"0-{shards - 1}", **more)
    costs |= {step: run_step(tree, environment, step, day=DAY) for step in ("check_labels", "publish")}
    print(f"{tree.name}, {shards} shards: {sum(costs.values(), Cost(0, 0, 0))}", flush=True)
    return costs


def planned(tree: Tree, environment: Mapping[str, str], run: str, shards: int = 1) -> Cost:
    return run_step(tree, environment, "plan", day=DAY, run=run, shard_rows=1, max_shards=shards)


def safe(tree: Tree) -> str:
    return tree.name.replace(" ", "-")


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
