"""Label runs of one day that overlap: which of them the labels are of in the end."""

import pytest

from llambert_etl.config import LabellingTask
from llambert_etl.errors import DataError
from llambert_etl.lake import Lake
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.steps.plan import plan
from tests.given.labelling import DAY, NEXT, Parity, Shelf, drop, finish, label_run, labels, run_shards
from tests.given.tasks import make_task


def two_runs(lake: Lake, task: LabellingTask, settings: Settings, newer: str) -> None:
    """Plan run `old`, then run `new` of the same day with a newer champion or newer documents; stage both."""
    shelf = Shelf(task, 1)
    drop(lake, task, ["a", "b"])
    plan(Run(task, DAY, "old"), lake=lake, registry=shelf, settings=settings)  # type: ignore[arg-type]
    if newer == "champion":
        shelf.now = 2
    else:
        drop(lake, task, ["a", "b", "late"], key="second drop")
    plan(Run(task, DAY, "new"), lake=lake, registry=shelf, settings=settings)  # type: ignore[arg-type]
    for run in ("old", "new"):
        run_shards(lake, task, settings, DAY, run, Parity(2))


def rows_and_versions(lake: Lake, task: LabellingTask) -> tuple[int, set[int]]:
    published = labels(lake, task)
    return len(published), {version for _, version in published.values()}


NEWER = {"champion": (2, {2}), "documents": (3, {1})}


@pytest.mark.parametrize("newer", NEWER)
def test_labels_that_an_older_run_publishes_meanwhile_are_replaced(
    lake: Lake, small_shards: Settings, newer: str
) -> None:
    task = make_task()
    two_runs(lake, task, small_shards, newer)
    finish(lake, task, DAY, "old")
    finish(lake, task, DAY, "new")
    again = finish(lake, task, DAY, "new")
    assert rows_and_versions(lake, task) == NEWER[newer]
    assert again.versions_written == {"labels": lake.version("labels")}


@pytest.mark.parametrize("newer", NEWER)
def test_a_run_that_a_newer_one_has_overtaken_leaves_its_labels_and_says_so(
    lake: Lake, small_shards: Settings, newer: str
) -> None:
    task = make_task()
    two_runs(lake, task, small_shards, newer)
    finish(lake, task, DAY, "new")
    before = lake.version("labels")
    late = finish(lake, task, DAY, "old")
    assert rows_and_versions(lake, task) == NEWER[newer]
    assert (lake.version("labels"), late.versions_written, late.rows) == (before, {}, {})
    assert late.facts["skip"] == "run 'new' has meanwhile published the labels of newer documents or a newer champion"


def test_of_two_runs_at_once_one_with_a_version_of_its_own_does_not_undo_the_other(
    lake: Lake, small_shards: Settings
) -> None:
    task, shelf = make_task(), Shelf(make_task(), 1)
    drop(lake, task, ["a", "b"])
    plan(Run(task, DAY, "r1"), lake=lake, registry=shelf, settings=small_shards, model_version=2)  # type: ignore[arg-type]
    label_run(lake, task, shelf, small_shards, run="r2")
    run_shards(lake, task, small_shards, DAY, "r1", Parity(2))
    with pytest.raises(DataError, match=r"cannot be told whose documents and champion are newer; start another"):
        finish(lake, task, DAY, "r1")
    assert {version for _, version in labels(lake, task).values()} == {1}


def test_a_run_planned_without_the_registry_is_older_than_the_promotion_it_did_not_see(
    lake: Lake, small_shards: Settings
) -> None:
    task, shelf = make_task(), Shelf(make_task(), 1)
    drop(lake, task, ["a"], day=NEXT)
    label_run(lake, task, shelf, small_shards, run="r0", day=NEXT)
    drop(lake, task, ["a", "b"])
    shelf.down, shelf.now = True, 2
    plan(Run(task, DAY, "blind"), lake=lake, registry=shelf, settings=small_shards)  # type: ignore[arg-type]
    run_shards(lake, task, small_shards, DAY, "blind", Parity(2))
    shelf.down = False
    label_run(lake, task, shelf, small_shards, run="r2")
    assert "skip" in finish(lake, task, DAY, "blind").facts
    assert {version for _, version in labels(lake, task).values()} == {2}
