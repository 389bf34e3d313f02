"""plan, label and publish: one pinned version a partition, every text inferred once, one visible commit."""

import pytest

from llambert_etl.config import LabellingTask
from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.labelling.plan import read_plan
from llambert_etl.lake import Lake
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.steps.plan import NO_CHAMPION, NO_DOCUMENTS, plan
from llambert_etl.steps.publish import publish
from tests.given.labelling import DAY, NEXT, Parity, Shelf, drop, label_run, labels, run_shard, run_shards
from tests.given.tasks import make_task, three_label_task


@pytest.fixture(params=[make_task, three_label_task], ids=["two labels", "three labels"])
def task(request: pytest.FixtureRequest) -> LabellingTask:
    return request.param()


def test_every_accepted_document_gets_one_label_of_the_task(
    lake: Lake, task: LabellingTask, small_shards: Settings
) -> None:
    drop(lake, task, [f"text {n}" for n in range(20)])
    manifest, _ = label_run(lake, task, Shelf(task, 1), small_shards)
    assert manifest.rows == {"read": 20, "inferred": 20, "reused": 0}
    assert manifest.facts["model_version"] == 1  # to which the step's link in Airflow leads
    expected = {f"{DAY}-{n}": (task.label_names[ord(str(n)[-1]) % len(task.labels)], 1) for n in range(20)}
    assert labels(lake, task) == expected


def test_a_shard_is_given_20_times_its_overhead_to_do_at_the_rate_of_the_last_label_run(
    lake: Lake, small_shards: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, shelf = make_task(), Shelf(make_task(), 1)
    # The three shards of the first run take two seconds each: two rows a second.
    monkeypatch.setattr(Run, "_seconds", lambda _: 2.0)
    drop(lake, task, [f"text {n}" for n in range(12)])
    assert label_run(lake, task, shelf, small_shards)[0].facts["shard_seconds"] == 6.0
    drop(lake, task, [f"other {n}" for n in range(17)], day=NEXT)
    shards = {}
    for overhead in (0.0, 0.1, 0.3, 0.5):
        settings = small_shards.model_copy(update={"shard_overhead_seconds": overhead, "max_shards": 9})
        told = plan(Run(task, NEXT, f"after {overhead}"), lake=lake, registry=shelf, settings=settings)  # type: ignore[arg-type]
        shards[overhead] = told.facts["shards"]
    # 4 rows in a shard, then 4, 16 for the 12 that are wanted, and 32 for 20.
    assert shards == {0.0: 5, 0.1: 5, 0.3: 2, 0.5: 1}


def test_rows_that_were_refused_without_a_text_are_passed_over(lake: Lake, small_shards: Settings) -> None:
    task = make_task()
    drop(lake, task, [f"text {n}" for n in range(12)], refused=2)
    manifest, _ = label_run(lake, task, Shelf(task, 1), small_shards)
    assert manifest.rows["read"] == len(labels(lake, task)) == 12


def test_equal_texts_are_inferred_once(lake: Lake, small_shards: Settings) -> None:
    task = make_task()
    drop(lake, task, ["same"] * 9 + ["other"])
    _, classifier = label_run(lake, task, Shelf(task, 1), small_shards)
    assert sorted(classifier.asked) == ["other", "same"]
    assert len(labels(lake, task)) == 10


def test_without_a_champion_the_run_skips_with_that_word(lake: Lake, small_shards: Settings) -> None:
    task = make_task()
    drop(lake, task, ["a"])
    manifest, _ = label_run(lake, task, Shelf(task, None), small_shards)
    assert manifest.facts["skip"] == NO_CHAMPION
    assert labels(lake, task) == {}


def test_a_second_run_over_the_same_documents_and_champion_has_nothing_to_do(
    lake: Lake, small_shards: Settings
) -> None:
    task, before = make_task(), lake.version("labels")
    drop(lake, task, ["a", "b"])
    label_run(lake, task, Shelf(task, 1), small_shards)
    manifest, classifier = label_run(lake, task, Shelf(task, 1), small_shards, run="r2")
    assert manifest.facts["fresh"] is True
    assert classifier.asked == []
    assert lake.version("labels") == before + 1


def test_a_late_document_costs_one_inference(lake: Lake, small_shards: Settings) -> None:
    task = make_task()
    drop(lake, task, ["a", "b"])
    label_run(lake, task, Shelf(task, 1), small_shards)
    drop(lake, task, ["a", "b", "late"], key="second drop")
    _, classifier = label_run(lake, task, Shelf(task, 1), small_shards, run="r2")
    assert classifier.asked == ["late"]
    assert len(labels(lake, task)) == 3


def test_a_new_champion_labels_every_row_again(lake: Lake, small_shards: Settings) -> None:
    task = make_task()
    drop(lake, task, ["a", "b"])
    label_run(lake, task, Shelf(task, 1), small_shards)
    _, classifier = label_run(lake, task, Shelf(task, 2), small_shards, run="r2")
    assert sorted(classifier.asked) == ["a", "b"]
    assert {version for _, version in labels(lake, task).values()} == {2}


def test_labels_of_before_a_promotion_that_were_restored_are_made_anew(lake: Lake, small_shards: Settings) -> None:
    task, good = make_task(), lake.version("labels") + 1
    drop(lake, task, ["a", "b"])
    label_run(lake, task, Shelf(task, 1), small_shards)
    label_run(lake, task, Shelf(task, 2), small_shards, run="r2")
    lake.restore("labels", good)
    assert {version for _, version in labels(lake, task).values()} == {1}
    label_run(lake, task, Shelf(task, 2), small_shards, run="r3")
    assert {version for _, version in labels(lake, task).values()} == {2}


def test_a_champion_that_nobody_entered_is_entered_once_and_brings_the_other_days_back(
    lake: Lake, small_shards: Settings
) -> None:
    task, shelf = make_task(), Shelf(make_task(), 1)
    for day in (DAY, NEXT):
        drop(lake, task, ["a", "b"], day=day)
    first, _ = label_run(lake, task, shelf, small_shards)
    again = plan(Run(task, DAY, "r1"), lake=lake, registry=shelf, settings=small_shards)  # type: ignore[arg-type]
    other = plan(Run(task, NEXT, "r2"), lake=lake, registry=shelf, settings=small_shards)  # type: ignore[arg-type]
    assert [again.facts["bring_back"], other.facts["bring_back"]] == [[NEXT], []]
    (row,) = lake.scan("promotions", task.name).collect().iter_rows(named=True)
    assert (row["to_version"], row["moved_by"], row["partition"], row["run"]) == (1, "by hand", DAY, "r1")


def test_a_version_that_a_run_was_told_to_use_is_no_move(lake: Lake, small_shards: Settings) -> None:
    task, shelf = make_task(), Shelf(make_task(), 1)
    drop(lake, task, ["a"])
    plan(Run(task, DAY, "r1"), lake=lake, registry=shelf, settings=small_shards, model_version=2)  # type: ignore[arg-type]
    assert lake.scan("promotions", task.name).collect().is_empty()


def test_an_unfinished_run_that_is_told_another_version_is_planned_anew(lake: Lake, small_shards: Settings) -> None:
    task, shelf = make_task(), Shelf(make_task(), 1)
    drop(lake, task, ["a"])

    def planned(version: int | None) -> object:
        made = plan(Run(task, DAY, "r1"), lake=lake, registry=shelf, settings=small_shards, model_version=version)  # type: ignore[arg-type]
        return made.facts["model_version"]

    assert [planned(version) for version in (None, 2, None)] == [1, 2, 2]
    assert read_plan(lake, task.name, DAY, "r1").model.version == 2


def test_an_alias_moved_between_shards_does_not_mix_versions(lake: Lake, small_shards: Settings) -> None:
    task, shelf, classifier = make_task(), Shelf(make_task(), 1), Parity(2)
    drop(lake, task, [f"text {n}" for n in range(12)])
    plan(Run(task, DAY, "r1"), lake=lake, registry=shelf, settings=small_shards)  # type: ignore[arg-type]
    run_shard(lake, task, small_shards, DAY, "r1", 0, classifier)
    asked = len(classifier.asked)
    shelf.now = 2
    manifest, second = label_run(lake, task, shelf, small_shards)
    assert asked + len(second.asked) == 12, "a finished shard is not labelled again"
    assert {version for _, version in labels(lake, task).values()} == {1}
    assert manifest.facts["shards"] == 3


def test_nothing_is_published_before_its_gate(lake: Lake, small_shards: Settings) -> None:
    task = make_task()
    drop(lake, task, ["a"])
    label_run(lake, task, Shelf(task, 1), small_shards)
    plan(Run(task, DAY, "r2"), lake=lake, registry=Shelf(task, 2), settings=small_shards)  # type: ignore[arg-type]
    run_shards(lake, task, small_shards, DAY, "r2", Parity(2))
    with pytest.raises(DataError, match="have not passed their gate"):
        publish(Run(task, DAY, "r2"), lake=lake)
    assert {version for _, version in labels(lake, task).values()} == {1}


def test_a_missing_shard_is_named_and_the_old_labels_stay(lake: Lake, small_shards: Settings) -> None:
    task = make_task()
    drop(lake, task, [f"text {n}" for n in range(12)])
    label_run(lake, task, Shelf(task, 1), small_shards)
    plan(Run(task, DAY, "r2"), lake=lake, registry=Shelf(task, 2), settings=small_shards)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"shards \[0, 1, 2\] are not staged"):
        publish(Run(task, DAY, "r2"), lake=lake)
    assert {version for _, version in labels(lake, task).values()} == {1}


def test_publishing_twice_makes_one_commit(lake: Lake, small_shards: Settings) -> None:
    task = make_task()
    drop(lake, task, ["a", "b"])
    label_run(lake, task, Shelf(task, 1), small_shards)
    before = lake.version("labels")
    publish(Run(task, DAY, "r1"), lake=lake)
    assert lake.version("labels") == before


def test_with_the_registry_down_the_last_used_version_labels(lake: Lake, small_shards: Settings) -> None:
    task, shelf = make_task(), Shelf(make_task(), 7)
    drop(lake, task, ["a"])
    label_run(lake, task, shelf, small_shards)
    drop(lake, task, ["b"], day=NEXT)
    shelf.down = True
    label_run(lake, task, shelf, small_shards, run="r2", day=NEXT)
    assert [version for _, version in labels(lake, task, NEXT).values()] == [7]
    assert read_plan(lake, task.name, NEXT, "r2").model == shelf.version(task.name, 7)


def test_with_the_registry_down_and_nothing_labelled_yet_the_run_says_try_again(
    lake: Lake, small_shards: Settings
) -> None:
    task, shelf = make_task(), Shelf(make_task(), 1)
    shelf.down = True
    drop(lake, task, ["a"])
    with pytest.raises(TransientError, match="no answer"):
        label_run(lake, task, shelf, small_shards)


def test_a_champion_of_other_labels_is_refused(lake: Lake, small_shards: Settings) -> None:
    task = make_task()
    drop(lake, task, ["a"])
    other = Shelf(make_task(labels={"negative": "no", "positive": "yes"}), 1)
    with pytest.raises(ConfigError, match="train again, or put the task file's labels back"):
        label_run(lake, task, other, small_shards)


@pytest.mark.parametrize("champion", [1, None])
def test_a_day_that_was_never_ingested_is_refused(lake: Lake, small_shards: Settings, champion: int | None) -> None:
    """No promotion would bring it back, so without a champion it must not be told to wait for one."""
    task = make_task()
    with pytest.raises(ConfigError, match="nothing was ingested for this day"):
        label_run(lake, task, Shelf(task, champion), small_shards)


def test_a_day_without_documents_skips_with_that_word(lake: Lake, small_shards: Settings) -> None:
    task = make_task()
    drop(lake, task, [])
    manifest, _ = label_run(lake, task, Shelf(task, 1), small_shards)
    assert manifest.facts["skip"] == NO_DOCUMENTS


def test_a_day_that_lost_its_documents_loses_its_labels(lake: Lake, small_shards: Settings) -> None:
    task = make_task()
    drop(lake, task, ["a"])
    label_run(lake, task, Shelf(task, 1), small_shards)
    drop(lake, task, [], key="withdrawn")
    manifest, _ = label_run(lake, task, Shelf(task, 1), small_shards, run="r2")
    assert manifest.rows["read"] == 0
    assert labels(lake, task) == {}
