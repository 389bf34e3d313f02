"""How much of the history a step reads that is about the newest days: bytes and files, not seconds."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from llambert_etl.lake import Lake
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.steps.training_due import training_due
from tests.given.labelling import drop
from tests.given.tasks import make_task
from tests.unit.quality import frames

TASK = make_task(annotator={"sample": 30}, retrain={"weekday": "sunday", "or_new_documents": 500})
DAYS = [Partition(f"2026-10-{number:02}") for number in range(1, 21)]

_STATUS = """
import sys
from pathlib import Path
from llambert_etl.lake import Lake
from llambert_etl.settings import Settings
from llambert_etl.steps.status import status
from tests.given.tasks import make_task

def read():
    return int(Path("/proc/self/io").read_text().split()[1])

lake, before = Lake.from_settings(Settings(lake=sys.argv[1])), read()
found = status(make_task(), lake=lake, registry=None, today="2026-12-01")
print(found.documents["accepted"], read() - before)
"""


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path / "lake"))
    lake.create_tables()
    return lake


def test_days_long_before_the_last_training_are_not_read(lake: Lake) -> None:
    for day in DAYS:
        frames.put(lake, "documents", frames.documents(TASK, 10), TASK, day)
    for day in DAYS[:10]:
        for file in Path(lake.uri, "documents").glob(f"task=*/partition={day}/*.parquet"):
            file.unlink()
    facts = training_due(Run(TASK, DAYS[-1], "night"), lake=lake, trained=DAYS[-3]).facts
    assert (facts["new_documents"], facts["reason"]) == (20, f"20 new documents since {DAYS[-3]}, fewer than 500")


def test_the_status_screen_reads_the_ends_of_files_and_not_their_texts(lake: Lake) -> None:
    """In a process of its own: polars looks once at what it was told."""
    dice = random.Random(1)  # noqa: S311
    for day in DAYS[:5]:
        drop(lake, TASK, [dice.randbytes(500).hex() for _ in range(1000)], day)
    done = subprocess.run([sys.executable, "-c", _STATUS, lake.uri], check=True, capture_output=True, text=True)
    accepted, read = map(int, done.stdout.split())
    assert accepted == 5000
    assert read < 5 * (100 << 10)
