"""The demo's world for benchmarks: its task, its models, and its reviews in a lake of their own, with no server."""

import gzip
import json
from pathlib import Path
from typing import NamedTuple

import polars as pl

from laptop.demo.__main__ import TASK
from laptop.demo.data import DAYS, Review, read_corpus, write_gold
from laptop.environment import model_paths
from laptop.stack import REPOSITORY
from llambert_etl.config import LabellingTask, find_task
from llambert_etl.corpus.documents import as_of
from llambert_etl.lake import Lake
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.steps.ingest import ingest

DAY = DAYS[0]
_STATE = REPOSITORY / ".benchmarks" / "reviews"


class World(NamedTuple):
    """`lake` holds every review but those that gold tests on; `truth` has the label that the corpus gives each id."""

    task: LabellingTask
    settings: Settings
    lake: Lake
    truth: pl.DataFrame
    gold_test: pl.DataFrame

    def documents(self) -> pl.LazyFrame:
        return as_of(self.lake, self.task.name, DAY)


def open_world(state: Path = _STATE) -> World:
    """Ingest the reviews where this was not done before. What was annotated here once is not asked again."""
    landing = state / "landing"
    settings = _settings(state, landing)
    task = find_task(settings.include, TASK)
    source = task.source.model_copy(update={"uri": f"{landing}/{{partition}}/*"})
    task = task.model_copy(update={"source": source})
    reviews = read_corpus(REPOSITORY / ".models")
    write_gold(reviews, state / "gold.parquet")
    test = pl.read_parquet(state / "gold.parquet").filter(pl.col("split") == "test")
    tested = set(test["text"])
    _write_drop(task, landing, [review for review in reviews if review.text not in tested])
    lake = Lake.from_settings(settings)
    lake.create_tables()
    ingest(Run(task, DAY, "benchmarks"), lake=lake, settings=settings)
    truth = pl.DataFrame(reviews, schema=Review._fields, orient="row").select("id", pl.col("label").alias("truth"))
    return World(task, settings, lake, truth, test)


def _settings(state: Path, landing: Path) -> Settings:
    models = model_paths(REPOSITORY)
    return Settings(
        lake=str(state / "lake"),
        include=REPOSITORY / "include",
        state=state / "work",
        sources=[str(landing)],
        model_orgs=[model.split("/")[0] for model in models],
        model_paths=models,
    )


def _write_drop(task: LabellingTask, landing: Path, reviews: list[Review]) -> None:
    """Write the reviews as one landing file, byte for byte the same each time, so that ingest finds nothing new."""
    lines = [json.dumps({task.source.id: review.id, task.source.text: review.text}) for review in reviews]
    content = gzip.compress("\n".join(lines).encode(), mtime=0)
    path = landing / DAY / "reviews.jsonl.gz"
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
