"""An export: a CSV file for each partition, in a folder of the deployment."""

from pathlib import Path

import pyarrow.csv
from pydantic import Field

from llambert_etl.config.exports import Export
from llambert_etl.config.fields import TaskName
from llambert_etl.exports.published import SCHEMA, Arrival, Batches, PublishedPartition
from llambert_etl.lake import Lake
from llambert_etl.settings import Settings


class CsvFolder(Export):
    """A folder of CSV files below the deployment's `LLAMBERT_STATE`."""

    written = "{csv: <folder>}"

    csv: TaskName = Field(description="the folder's name")

    @property
    def name(self) -> str:
        return f"csv/{self.csv}"


def write_csv(
    place: CsvFolder, published: PublishedPartition, batches: Batches, *, run: str, lake: Lake, settings: Settings
) -> Arrival:
    """Write the partition's file whole. Its name says which publish it holds; an older one goes after that."""
    folder = settings.state / "csv" / place.csv / published.task / published.partition
    folder.mkdir(parents=True, exist_ok=True)
    held = {int(path.stem): path for path in folder.glob("*.csv")}
    if held and max(held) >= published.version:
        return "held" if max(held) == published.version else "newer"
    part = Path(folder, f"{run}.part")
    with pyarrow.csv.CSVWriter(part, SCHEMA) as writer:
        for batch in batches:
            writer.write_batch(batch)
    part.replace(folder / f"{published.version}.csv")
    for path in held.values():
        path.unlink(missing_ok=True)
    return "exported"
