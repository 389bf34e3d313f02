"""When training is due: what the documents, the last training and the task file say."""

from pathlib import Path

import pytest

from llambert_etl.lake import Lake
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.steps.training_due import training_due
from tests.given.tasks import make_task
from tests.unit.quality import frames

TUESDAY, WEDNESDAY, SUNDAY, MONDAY = (Partition(f"2026-11-{day}") for day in (10, 11, 15, 16))
TASK = make_task(annotator={"sample": 300}, retrain={"weekday": "sunday", "or_new_documents": 500})


def due(
    tmp_path: Path, counts: dict[Partition, int], day: Partition, trained: Partition | None, *, force: bool = False
) -> tuple[bool, str]:
    lake = Lake(str(tmp_path / "lake"))
    lake.create_tables()
    for each, count in counts.items():
        frames.put(lake, "documents", frames.documents(TASK, count), TASK, each)
    facts = training_due(Run(TASK, day, "night"), lake=lake, trained=trained, force=force).facts
    return bool(facts["due"]), str(facts["reason"])


@pytest.mark.parametrize(
    ("counts", "day", "trained", "expected"),
    [
        pytest.param({TUESDAY: 1}, TUESDAY, None, (True, "nothing trained yet, 1 documents wait"), id="first"),
        pytest.param({}, TUESDAY, None, (False, "nothing trained yet, 0 documents wait"), id="nothing there"),
        pytest.param({WEDNESDAY: 9}, TUESDAY, None, (False, "nothing trained yet, 0 documents wait"), id="later day"),
        pytest.param({TUESDAY: 9}, TUESDAY, TUESDAY, (False, "already trained as of 2026-11-10"), id="same day"),
        pytest.param({TUESDAY: 9}, TUESDAY, WEDNESDAY, (False, "already trained as of 2026-11-11"), id="backfill"),
        pytest.param(
            {TUESDAY: 900, WEDNESDAY: 499},
            WEDNESDAY,
            TUESDAY,
            (False, "499 new documents since 2026-11-10, fewer than 500"),
            id="too few",
        ),
        pytest.param(
            {TUESDAY: 900, WEDNESDAY: 500}, WEDNESDAY, TUESDAY, (True, "500 new documents since 2026-11-10"), id="many"
        ),
        pytest.param(
            {TUESDAY: 100, WEDNESDAY: 100},
            WEDNESDAY,
            TUESDAY,
            (True, "100 new documents since 2026-11-10, which had 100 of the 300 that the sample asks for"),
            id="a young corpus has doubled",
        ),
        pytest.param(
            {TUESDAY: 100, WEDNESDAY: 99},
            WEDNESDAY,
            TUESDAY,
            (False, "99 new documents since 2026-11-10, fewer than 500"),
            id="a young corpus has not doubled",
        ),
        pytest.param(
            {TUESDAY: 900, WEDNESDAY: 1},
            SUNDAY,
            TUESDAY,
            (True, "weekly, on sunday: 1 new documents since 2026-11-10"),
            id="the weekday",
        ),
        pytest.param({TUESDAY: 9}, SUNDAY, TUESDAY, (False, "0 new documents since 2026-11-10"), id="a quiet week"),
        pytest.param(
            {TUESDAY: 900, SUNDAY: 1},
            MONDAY,
            TUESDAY,
            (True, "weekly, on sunday 2026-11-15, which came to no decision: 1 new documents since 2026-11-10"),
            id="the weekday was missed",
        ),
        pytest.param(
            {TUESDAY: 900, MONDAY: 1},
            MONDAY,
            TUESDAY,
            (False, "1 new documents since 2026-11-10, fewer than 500"),
            id="nothing waited on the weekday",
        ),
        pytest.param(
            {TUESDAY: 900, MONDAY: 1},
            MONDAY,
            SUNDAY,
            (False, "1 new documents since 2026-11-15, fewer than 500"),
            id="the weekday was not missed",
        ),
    ],
)
def test_training_is_due_for_a_reason_that_is_named(
    tmp_path: Path, counts: dict[Partition, int], day: Partition, trained: Partition | None, expected: tuple[bool, str]
) -> None:
    assert due(tmp_path, counts, day, trained) == expected


def test_what_somebody_forces_is_due_whatever_the_counts_say(tmp_path: Path) -> None:
    assert due(tmp_path, {TUESDAY: 9}, TUESDAY, TUESDAY, force=True) == (True, "asked for")
