"""A landing folder of one task, and what ingest makes of it."""

from pathlib import Path
from typing import TypeVar

import polars as pl

from llambert_etl.config import LabellingTask
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.sources.files import Listing
from llambert_etl.steps.ingest import ingest
from tests.given.tasks import make_task

DAY, NEXT = Partition("2026-11-10"), Partition("2026-11-11")
Files = TypeVar("Files", bound=Listing)


class Landing:
    """A landing folder, a lake beside it, and the task that reads one into the other."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "landing"
        self.folder.mkdir()
        self.lake = Lake(str(root / "lake"))
        self.lake.create_tables()
        self.settings = Settings(lake=str(root / "lake"), sources=[str(self.folder)])
        self.task: LabellingTask = make_task(source={"uri": f"{self.folder}/{{partition}}/*"})

    def drop(self, name: str, content: bytes, day: Partition = DAY) -> Path:
        path = self.folder / day / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    def ingest(self, day: Partition = DAY, run: str = "r1", *, missed: bool = False) -> Manifest:
        return ingest(Run(self.task, day, run), lake=self.lake, settings=self.settings, missed=missed)

    def rows(self, day: Partition = DAY) -> pl.DataFrame:
        return self.lake.scan("documents", self.task.name, day).collect()

    def accepted(self, day: Partition = DAY) -> list[str]:
        return sorted(self.rows(day).filter(pl.col("status") == "accepted")["id"].to_list())


def listed(files: Files) -> Files:
    """List now what is listed when it is first asked for."""
    assert files.objects is not None
    return files
