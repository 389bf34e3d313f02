"""The lake: six Delta tables of Parquet, written by three verbs only."""

from llambert_etl.lake.commits import Commit
from llambert_etl.lake.reading import Snapshot, Tables, collect, count, schema_of, stream
from llambert_etl.lake.staging import StagedFile, StagedFiles
from llambert_etl.lake.tables import Lake
from llambert_etl.lake.upkeep import RETENTION

__all__ = [
    "RETENTION",
    "Commit",
    "Lake",
    "Snapshot",
    "StagedFile",
    "StagedFiles",
    "Tables",
    "collect",
    "count",
    "schema_of",
    "stream",
]
