"""Gold files, and a desk at which somebody imports them."""

from pathlib import Path
from typing import Any

import polars as pl

from llambert_etl.config import LabellingTask
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.steps.gold import import_gold
from tests.given.poison import jsonl, reviews
from tests.given.tasks import make_task

DAY = Partition("2026-11-10")
Rows = list[dict[str, Any]]


def gold(count: int = 20) -> Rows:
    return [
        {**row, "label": ("positive", "negative")[number % 2], "annotator": "ada"}
        for number, row in enumerate(reviews(count))
    ]


class Desk:
    """A lake, and a folder in which somebody leaves gold files."""

    def __init__(self, root: Path) -> None:
        self.folder = root
        self.lake = Lake(str(root / "lake"))
        self.lake.create_tables()
        self.settings = Settings(lake=str(root / "lake"), sources=[str(root)])

    def write(self, rows: Rows, name: str = "gold.jsonl") -> Path:
        path = self.folder / name
        if name.endswith(".parquet"):
            pl.DataFrame(rows).write_parquet(path)
        elif name.endswith(".csv"):
            pl.DataFrame(rows).write_csv(path)
        else:
            path.write_bytes(jsonl(*rows))
        return path

    def imports(
        self, file: Path | str, day: Partition = DAY, task: LabellingTask | None = None, run: str = "r1"
    ) -> Manifest:
        return import_gold(Run(task or make_task(), day, run), file, lake=self.lake, settings=self.settings)

    def held(self, day: Partition | None = None, task: str = "reviews") -> pl.DataFrame:
        return self.lake.scan("gold", task, day).collect().sort("id")
