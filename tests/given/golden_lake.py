"""Makes a small lake as the present version of llambert writes it; those of earlier versions are kept in `golden`.

`python -m tests.given.golden_lake FOLDER`. Its rows are always the same; names of files and moments are not.
"""

import shutil
import sys
from pathlib import Path

from llambert_etl.corpus.documents import hash_text
from llambert_etl.lake import Lake
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.steps.check import check_labels
from llambert_etl.steps.plan import plan
from tests.given.annotating import RuleAnnotator, even, ingest, run_annotate
from tests.given.labelling import DAY, NEXT, Parity, Shelf, finish, run_shards
from tests.given.tasks import make_task
from tests.unit.quality.frames import put

TASK = make_task()
GOLDEN = Path(__file__).parents[1] / "golden"


def settings_of(lake: Path) -> Settings:
    return Settings(
        lake=str(lake), include=lake, state=lake / "state", shard_rows=2, max_shards=2, shard_overhead_seconds=0
    )


def planned(lake: Lake, settings: Settings, day: str, run: str) -> None:
    plan(Run(TASK, day, run), lake=lake, registry=Shelf(TASK, 1), settings=settings)  # type: ignore[arg-type]


def make(folder: Path) -> None:
    """Write documents of two days, all else about the first, and labels of the second that are staged and checked."""
    settings = settings_of(folder)
    lake = Lake.from_settings(settings)
    lake.create_tables()
    ingest(lake, TASK, DAY, range(4))
    ingest(lake, TASK, NEXT, range(4, 7))
    lake.open("documents").create_checkpoint()
    run_annotate(lake, RuleAnnotator(even))
    text = {"id": "g1", "text_hash": hash_text("text 1")}
    put(lake, "gold", [{"task": TASK.name, **text, "text": "text 1", "label": "negative", "split": "test"}], TASK)
    put(lake, "reviews", [{"task": TASK.name, **text, "stratum": "random", "label": "negative"}], TASK)
    for day, run in ((DAY, "r1"), (NEXT, "r2")):
        planned(lake, settings, day, run)
        run_shards(lake, TASK, settings, day, run, Parity(2))
        if day == DAY:
            finish(lake, TASK, day, run)
    check_labels(Run(TASK, NEXT, "r2"), lake=lake, prompt_hash="p")
    shutil.rmtree(folder / "_reports")
    (folder / "_clock").unlink()
    for log in folder.glob("*/_delta_log/*.json"):  # which says where the table was made, and nobody reads it
        log.write_text(log.read_text().replace(f"file://{folder.resolve()}", "lake"))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
