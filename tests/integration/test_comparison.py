"""What a dry run of promote says would change, on real encoders that are known to be wrong about a word."""

import pyarrow as pa
import pytest

from llambert_etl.champion.comparison import compare
from llambert_etl.corpus.documents import hash_text
from llambert_etl.corpus.gold import gold_as_of
from llambert_etl.manifest import Manifest
from llambert_etl.schemas import TABLES
from tests.given.labelling import drop
from tests.given.promotion import DAY, NEXT, RIGHT, House

TEXTS = [f"the film {word}" for word in RIGHT]  # good and fine are positive, bad and poor negative


def serve(house: House, texts: list[str], label: str = "negative") -> None:
    """Label documents of one day all alike."""
    drop(house.lake, house.task, texts, refused=2)
    rows = [
        {
            "task": house.task.name,
            "partition": DAY,
            "id": f"{DAY}-{number}",
            "text_hash": hash_text(text),
            "label": label,
            "model_version": 1,
        }
        for number, text in enumerate(texts)
    ]
    table = pa.Table.from_pylist(rows, schema=TABLES["labels"].schema)
    staged = house.lake.stage("labels", house.task.name, DAY, [table], name="shard-0")
    manifest = Manifest(step="publish", task=house.task.name, partition=DAY, run="r1")
    house.lake.replace_partition("labels", house.task.name, DAY, staged, commit_key="1", manifest=manifest)


def test_both_versions_are_measured_on_the_same_gold_and_their_difference_has_an_interval(house: House) -> None:
    house.train("worse")
    house.promote()
    better = house.train("right", NEXT)
    found = house.promote(NEXT, "r2", dry_run=True)["comparison"]
    assert (found["candidate"]["version"], found["champion"]["version"], found["gold"]) == (better, 1, 20)
    assert (found["candidate"]["accuracy"], found["champion"]["accuracy"]) == (1.0, 0.75)
    assert set(found["champion"]["f1"]) == set(house.task.labels)
    difference, low, high = found["gain"]["accuracy"]
    assert (difference, 0 < low < difference < high < 0.5) == (0.25, True)
    assert found["gain"]["macro_f1"][0] == pytest.approx(1 - found["champion"]["macro_f1"], abs=1e-3)
    assert found["gain"]["p"] == 0.0625  # five rows, all one way: 2 * 0.5 ** 5


def test_the_labels_that_would_change_are_counted_pair_by_pair(house: House) -> None:
    serve(house, TEXTS * 5)
    house.train("worse")  # it takes `fine` for negative
    changes = house.promote(dry_run=True)["comparison"]["changes"]
    assert changes == {
        "labels": 20,
        "sample": 20,
        "changed": 5,
        "low": 5,
        "high": 5,
        "pairs": [["negative", "positive", 5]],
    }


def test_a_sample_is_scaled_to_all_labels_with_an_interval(house: House) -> None:
    serve(house, TEXTS * 50)
    candidate = house.registry.version(house.task.name, house.train("right"))
    gold = gold_as_of(house.task, house.lake, DAY)
    first, again = (
        compare(house.task, gold, candidate, None, lake=house.lake, registry=house.registry, sample=100).changes
        for _ in range(2)
    )
    assert first == again
    assert (first.labels, first.sample) == (200, 100)
    assert first.low < 100 < first.high
    assert first.low < 2 * first.changed < first.high


def test_before_anything_is_labelled_or_anybody_is_champion_there_is_nothing_to_compare_with(house: House) -> None:
    house.train("right")
    found = house.promote(dry_run=True)["comparison"]
    assert (found["champion"], found["gain"], found["changes"]["labels"]) == (None, None, 0)
