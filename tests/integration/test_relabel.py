"""The days that a relabel brings back: those of the range that have documents."""

import pytest

from llambert_etl.errors import ConfigError
from llambert_etl.lake import Lake
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.steps.relabel import relabel
from tests.given.labelling import DAY, NEXT, drop
from tests.given.tasks import make_task


def test_days_with_documents_are_listed_and_the_first_of_the_others_named(lake: Lake) -> None:
    task = make_task()
    for day in (DAY, NEXT, Partition("2026-11-14")):
        drop(lake, task, ["a"], day=day)
    facts = relabel(Run(task, DAY, "r1"), upto=Partition("2026-11-13"), lake=lake).facts
    assert facts == {
        "upto": "2026-11-13",
        "bring_back": [DAY, NEXT],
        "without_documents": ["2026-11-12", "2026-11-13"],
    }


def test_a_range_of_centuries_lists_what_exists(lake: Lake) -> None:
    task = make_task()
    drop(lake, task, ["a"])
    facts = relabel(Run(task, Partition("0001-01-01"), "r1"), upto=Partition("9999-12-31"), lake=lake).facts
    assert facts["bring_back"] == [DAY]
    assert facts["without_documents"] == [f"0001-01-{day:02}" for day in range(1, 11)]


def test_a_range_that_ends_before_it_begins_is_refused(lake: Lake) -> None:
    with pytest.raises(ConfigError, match="2026-11-11 to 2026-11-10 ends before it begins; swap the two days"):
        relabel(Run(make_task(), NEXT, "r1"), upto=DAY, lake=lake)
