"""A small deployment: one task, three days of documents and tiny models, on real servers behind fault proxies."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from pydantic import SecretStr

from laptop import Stack
from laptop.environment import ARTIFACTS, variables
from laptop.mlflow import MlflowServer
from laptop.seaweed import SeaweedFS
from laptop.stack import REPOSITORY
from llambert_etl.config import LabellingTask, load_task
from llambert_etl.lake import Lake
from llambert_etl.partition import Partition
from llambert_etl.registry import Registry
from llambert_etl.schemas import TABLES, TableName
from llambert_etl.settings import Settings
from tests.fakes.proxy import Proxy, fault_proxy
from tests.given.poison import jsonl
from tests.given.tasks import task_fields
from tests.models.encoders import taught
from tests.models.llms import save_tiny_llama

REVIEWED = Partition("2026-11-13")  # after all documents: no training learns from the answers
DAYS = FIRST, SECOND, THIRD = Partition("2026-11-10"), Partition("2026-11-11"), Partition("2026-11-12")
RIGHT = {"good": "positive", "fine": "positive", "bad": "negative", "poor": "negative"}
# Two words are learnt wrong, and gold corrects them on the third day only: so a second champion follows the first.
_WRONG = {**RIGHT, "fine": "negative", "poor": "positive"}
_ANNOTATOR, _ENCODER = "tests/tiny-llama", "tests/tiny-bert"
_PER_DAY = 40

# What two runs that came to the same end agree in. Names of runs and numbers of versions may differ.
_SAME: dict[TableName, tuple[str, ...]] = {
    "documents": ("partition", "id", "status", "reason", "place", "text_hash"),
    "annotations": ("partition", "id", "text_hash", "status", "label"),
    "gold": ("partition", "id", "text_hash", "label", "split"),
    "labels": ("partition", "id", "text_hash", "label"),
    "reviews": ("partition", "id", "text_hash", "annotator", "answer"),
}

Do = Callable[..., list[dict[str, Any]]]


@dataclass(frozen=True)
class Ground:
    """What all worlds stand on: two servers, a proxy before each, two tiny models."""

    s3: SeaweedFS
    mlflow: MlflowServer
    store: Proxy
    tracking: Proxy
    models: Mapping[str, Path]
    root: Path


@contextlib.contextmanager
def ground(root: Path) -> Iterator[Ground]:
    models = {_ANNOTATOR: save_tiny_llama(root / "llama", context=512), _ENCODER: taught(root / "bert", _WRONG)}
    stack = Stack(root / "stack")
    try:
        stack.s3.start()
        stack.mlflow.start()
        with (
            fault_proxy(stack.s3.endpoint) as store,
            fault_proxy(stack.mlflow.uri, keep_host=False) as tracking,
        ):
            yield Ground(stack.s3, stack.mlflow, store, tracking, models, root)
    finally:
        stack.stop()


class World:
    """A bucket and a task of its own. Steps get `environment`, which leads through the proxies; `settings` do not."""

    def __init__(self, ground: Ground, name: str) -> None:
        self.ground, self.root = ground, ground.root / name
        self.bucket = name.replace("_", "-")
        ground.s3.create_bucket(self.bucket)
        (self.root / "logs").mkdir(parents=True)
        self._write_task(name)
        self.task: LabellingTask = load_task(self.root / "include" / "tasks" / f"{name}.yaml")
        self.settings = self._settings(ground.s3.endpoint, ground.mlflow.uri)
        self.environment = variables(self._settings(ground.store.endpoint(), ground.tracking.endpoint()))
        self.environment["OMP_NUM_THREADS"] = "1"

    def _write_task(self, name: str) -> None:
        include = self.root / "include"
        shutil.copytree(REPOSITORY / "include" / "prompts", include / "prompts")
        fields = task_fields(name)
        fields["source"]["uri"] = f"s3://{self.bucket}/landing/{{partition}}/*.jsonl"
        fields["annotator"] |= {"model": _ANNOTATOR, "sample": 30}
        # So long that gold can undo what the tiny LLM's labels, which mean nothing, have taught.
        steps = {"epochs": 30, "patience": 30, "batch_size": 8, "learning_rate": 0.002, "average_stages": False}
        fields["encoder"] |= {"model": _ENCODER, "strategy": "combined", **steps}
        fields["gates"] = {"max_unparsed": 1.0, "min_label_share": 0.0, "max_drift": 100.0, "min_gold_f1": 0.0}
        (include / "tasks").mkdir()
        (include / "tasks" / f"{name}.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))
        (include / "gold").mkdir()
        for day, words in ((FIRST, ("good", "bad")), (THIRD, tuple(RIGHT))):
            (include / "gold" / f"{day}.jsonl").write_bytes(jsonl(*_gold(words)))

    def _settings(self, s3: str, mlflow: str) -> Settings:
        ground = self.ground
        return Settings(
            lake=f"s3://{self.bucket}/lake",
            include=self.root / "include",
            state=self.root / "state",
            sources=[f"s3://{self.bucket}/landing/"],
            model_paths=dict(ground.models),
            model_orgs=["tests"],
            shard_rows=25,
            shard_overhead_seconds=0,  # the second night would need one shard only
            max_shards=2,
            checkpoint_seconds=0,  # a kill comes anywhere in a training of seconds
            allow_future=True,  # its days are no slip of the finger, whatever the clock says
            s3_endpoint=s3,
            s3_access_key_id=SecretStr(ground.s3.access_key),
            s3_secret_access_key=SecretStr(ground.s3.secret_key),
            mlflow_uri=mlflow,
            mlflow_username=SecretStr(ground.mlflow.username),
            mlflow_password=SecretStr(ground.mlflow.password),
        )

    def drop(self, day: Partition, name: str, start: int) -> None:
        """Put a landing file: good rows, a blank text, an id that comes twice, a line that is no JSON."""
        words = list(RIGHT)
        rows = [
            {"id": f"{day}-{number}", "text": f"the film {words[number % 4]} {number * 7919 % 1009}"}
            for number in range(start, start + _PER_DAY)
        ]
        body = jsonl(*rows, {"id": f"{day}-blank", "text": " "}, rows[0]) + b"no json\n"
        self.ground.s3.client().put_object(Bucket=self.bucket, Key=f"landing/{day}/{name}.jsonl", Body=body)

    def written(self) -> Iterator[tuple[str, bytes]]:
        """Yield every log, object and note that this world's steps and its servers wrote."""
        client = self.ground.s3.client()
        for bucket in (self.bucket, ARTIFACTS):
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                for entry in page.get("Contents", []):
                    body = client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
                    yield f"s3://{bucket}/{entry['Key']}", body
        servers = [self.ground.mlflow.log, *self.ground.mlflow.log.parent.glob("mlflow.db*")]
        for path in [*self.root.rglob("*"), *servers]:
            if path.is_file():
                yield str(path), path.read_bytes()

    def state(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return what must be the same after any storm."""
        lake, registry = Lake.from_settings(self.settings), Registry.from_settings(self.settings)

        def weights(version: int) -> str:
            return registry.version(self.task.name, version).hashes["model.safetensors"]

        found = {
            table: lake.scan(table, self.task.name).select(columns).collect().sort(pl.all(), nulls_last=True).rows()
            for table, columns in _SAME.items()
        }
        moves = lake.scan("promotions", self.task.name).sort("number").collect()
        assert set(found) | {"promotions"} == set(TABLES)
        champion = registry.champion(self.task.name)
        return {
            **found,
            "promotions": [(row["moved_by"], weights(row["to_version"])) for row in moves.iter_rows(named=True)],
            "champion": [(None if champion is None else weights(champion.version),)],
        }


def _gold(words: tuple[str, ...]) -> list[dict[str, object]]:
    rows = [(f"train-{word}-{number}", word, "train") for word in words for number in range(12)]
    rows += [(f"test-{word}-{number}", word, "test") for word in RIGHT for number in range(5)]
    return [
        {"id": name, "text": f"a film {word} {name.rpartition('-')[2]} {split}", "label": RIGHT[word], "split": split}
        for name, word, split in rows
    ]


def nights(world: World, run: str, do: Do) -> None:
    """Run three nights as Airflow would. `do` runs commands side by side, and returns their manifests."""

    def step(name: str, day: Partition, *options: str, suffix: str = "") -> list[str]:
        return [*name.split(), "--task", world.task.name, "--partition", day, "--run", run + suffix, *options]

    def retrain(day: Partition) -> None:
        gold = str(world.settings.include / "gold" / f"{day}.jsonl")
        do(["gold", "import", gold, *step("", day)])
        for name in ("annotate", "check annotations", "train", "promote"):
            do(step(name, day))

    def label(suffix: str) -> None:
        plans = do(*(step("plan", day, suffix=suffix) for day in DAYS))
        shards = {day: plan["facts"]["shards"] for day, plan in zip(DAYS, plans, strict=True)}
        due = [day for day in DAYS if shards[day]]
        do(*(step("label", day, "--shard", str(n), suffix=suffix) for day in due for n in range(shards[day])))
        do(*(step("check labels", day, suffix=suffix) for day in due))
        do(*(step("publish", day, suffix=suffix) for day in due))

    def review(day: Partition) -> None:
        folder = world.root / f"review-{run}"
        do(step(f"review export {folder}", day))
        do(step(f"review import {_answered(folder)}", day))

    for day in DAYS:
        world.drop(day, "reviews", 0)
    do(step("ingest", FIRST), step("ingest", SECOND))
    world.drop(SECOND, "late", _PER_DAY)
    do(step("ingest", THIRD))
    do(*(step("check documents", day) for day in DAYS))
    retrain(FIRST)
    label("-first")
    retrain(THIRD)
    label("-second")
    review(REVIEWED)


def _answered(folder: Path) -> Path:
    """Answer an exported review as a person would who knows what each word means."""
    asked = pl.read_csv(folder / "review.csv", infer_schema=False)
    right = pl.coalesce(pl.when(pl.col("text").str.contains(word)).then(pl.lit(label)) for word, label in RIGHT.items())
    path = folder.with_suffix(".csv")
    asked.with_columns(label=right, annotator=pl.lit("ada")).write_csv(path)
    return path


def command_of(argv: list[str]) -> str:
    """Return a command's name: what stands before its options and files."""
    words = argv[: argv.index("--task")]
    return " ".join(words[:2] if words[0] in ("check", "gold", "review") else words[:1])


def dumps(state: dict[str, list[tuple[Any, ...]]]) -> dict[str, set[str]]:
    return {table: {json.dumps(row) for row in rows} for table, rows in state.items()}
