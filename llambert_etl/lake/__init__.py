"""The lake: six Delta tables of Parquet, written by three verbs only."""

from llambert_etl.lake.commits import Commit
from llambert_etl.lake.reading import Snapshot, collect, count, stream
from llambert_etl.lake.staging import StagedFiles
from llambert_etl.lake.tables import Lake
from llambert_etl.lake.text_index import scan_texts
from llambert_etl.lake.upkeep import RETENTION

# Read each time as it is at that moment, or as it was when a step began.
Tables = Lake | Snapshot

__all__ = [
    "RETENTION",
    "Commit",
    "Lake",
    "Snapshot",
    "StagedFiles",
    "Tables",
    "collect",
    "count",
    "scan_texts",
    "stream",
]
