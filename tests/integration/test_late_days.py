"""Past days that a night takes in beside its own: those whose files have changed, and those on which nothing ran."""

from pathlib import Path

import pytest

from llambert_etl.partition import Partition
from llambert_etl.steps.ingest import late_partitions
from tests.given.landing import DAY, Landing
from tests.given.poison import jsonl, reviews

NEXT, LATER = Partition("2026-11-11"), Partition("2026-11-12")


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path)


def test_a_late_file_is_taken_in_by_the_next_night(landing: Landing) -> None:
    landing.drop("a.jsonl", jsonl(*reviews(3)))
    landing.ingest(), landing.ingest(NEXT)
    landing.drop("late.jsonl", jsonl(*reviews(2, start=3)))
    landing.drop("late.jsonl", jsonl(*reviews(1)), NEXT)
    assert landing.ingest(LATER).facts["late_partitions"] == [DAY, NEXT]
    assert (len(landing.accepted()), len(landing.accepted(NEXT))) == (5, 1)
    assert landing.ingest(LATER, run="r2").facts["late_partitions"] == []


def test_a_night_that_is_tried_again_names_the_late_days_of_the_first_try_too(landing: Landing) -> None:
    landing.drop("a.jsonl", jsonl(*reviews(3)))
    landing.ingest(), landing.ingest(NEXT)
    landing.drop("late.jsonl", jsonl(*reviews(2, start=3)))
    landing.ingest(LATER)
    landing.drop("late.jsonl", jsonl(*reviews(1)), NEXT)
    assert landing.ingest(LATER).facts["late_partitions"] == [DAY, NEXT]


def test_a_day_that_was_never_ingested_or_has_expired_is_not_late(landing: Landing) -> None:
    path = landing.drop("a.jsonl", jsonl(*reviews(3)))
    landing.drop("a.jsonl", jsonl(*reviews(3)), NEXT)
    landing.ingest()
    path.unlink()
    assert late_partitions(landing.task, lake=landing.lake, settings=landing.settings, before=LATER) == []


def test_a_night_takes_in_the_days_since_the_last_on_which_nothing_ran(landing: Landing) -> None:
    for number in range(8, 15):
        if number != 12:
            landing.drop("a.jsonl", jsonl(*reviews(number)), Partition(f"2026-11-{number:02}"))
    landing.ingest(Partition("2026-11-09"))
    manifest = landing.ingest(Partition("2026-11-14"), missed=True)
    assert manifest.facts["late_partitions"] == ["2026-11-10", "2026-11-11", "2026-11-13"]
    held = {number: len(landing.accepted(Partition(f"2026-11-{number:02}"))) for number in range(8, 14)}
    assert held == {8: 0, 9: 9, 10: 10, 11: 11, 12: 0, 13: 13}


def test_the_first_night_of_a_task_takes_in_no_day_before_it(landing: Landing) -> None:
    landing.drop("a.jsonl", jsonl(*reviews(3)))
    landing.drop("a.jsonl", jsonl(*reviews(3)), NEXT)
    assert landing.ingest(NEXT, missed=True).facts["late_partitions"] == []


def test_a_late_file_with_another_schema_does_not_hold_up_the_night(landing: Landing) -> None:
    landing.drop("a.jsonl", jsonl(*reviews(3)))
    landing.ingest()
    landing.drop("late.csv", b"other,columns\n1,2\n")
    landing.drop("a.jsonl", jsonl(*reviews(1)), NEXT)
    facts = landing.ingest(NEXT).facts
    assert list(facts["late_refused"]) == [DAY]  # type: ignore[arg-type]
    assert (len(landing.accepted()), len(landing.accepted(NEXT))) == (3, 1)
