"""What a version has said before is looked up once, where it was said; shards give the rows that a plain loop gives."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from llambert_etl.config import LabellingTask
from llambert_etl.corpus.documents import hash_text, in_shard, shard_starts
from llambert_etl.labelling import known
from llambert_etl.labelling.plan import Plan, read_plan, write_plan
from llambert_etl.lake import Lake, collect, scan_texts, text_index
from llambert_etl.lake.text_index import FOLDER
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.schemas import TABLES
from llambert_etl.settings import Settings
from llambert_etl.steps import label
from llambert_etl.steps.plan import plan
from tests.given.documents import DAY as OTHER_DAY
from tests.given.documents import TASK as OTHER_TASK
from tests.given.documents import documents, manifest
from tests.given.labelling import DAY, NEXT, Parity, Shelf, drop, finish, label_run, run_shards
from tests.given.tasks import make_task, three_label_task

TASK = make_task()
LATER = Partition("2026-11-12")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(lake=str(tmp_path / "lake"), include=tmp_path, state=tmp_path / "state", shard_rows=4, max_shards=3)


@pytest.fixture
def lake(settings: Settings) -> Lake:
    lake = Lake.from_settings(settings)
    lake.create_tables()
    return lake


def files_of(lake: Lake, day: Partition) -> list[Path]:
    return sorted(Path(lake.uri, "labels").glob(f"task=*/partition={day}/*.parquet"))


def indexes(lake: Lake) -> set[Path]:
    return {path for path in Path(lake.uri, FOLDER).rglob("*") if path.is_file()}


def planned(lake: Lake, settings: Settings, day: Partition, run: str) -> Plan:
    plan(Run(TASK, day, run), lake=lake, registry=Shelf(TASK, 1), settings=settings)  # type: ignore[arg-type]
    return read_plan(lake, TASK.name, day, run)


# Shards


@examples(deadline=None, derandomize=True)
@given(texts=st.lists(st.text(max_size=3)), shards=st.integers(1, 70))
def test_every_text_is_in_one_shard(texts: list[str], shards: int) -> None:
    hashes = pl.DataFrame({"text_hash": [hash_text(text) for text in texts]}, schema={"text_hash": pl.String})
    chosen = hashes.select(sum((in_shard(shard, shards).cast(pl.Int64) for shard in range(shards)), pl.lit(0)))
    assert chosen.to_series().to_list() == [1] * len(texts)
    assert shard_starts(shards) == sorted(shard_starts(shards))


def test_a_plan_says_how_many_documents_each_shard_has(lake: Lake, settings: Settings) -> None:
    drop(lake, TASK, [f"text {number}" for number in range(50)] + ["same"] * 9, refused=3)
    made = planned(lake, settings, DAY, "r1")
    rows = lake.scan("documents", TASK.name, DAY).filter(pl.col("status") == "accepted")
    assert made.sizes == tuple(collect(rows.filter(made.holds(shard))).height for shard in range(3))
    assert sum(made.sizes) == made.documents == 59


def test_a_plan_of_an_earlier_version_is_gone_on_with_as_it_was_cut(lake: Lake, settings: Settings) -> None:
    texts = [f"text {number}" for number in range(40)]
    drop(lake, TASK, texts)
    made = planned(lake, settings, DAY, "r1")
    write_plan(lake, earlier := made.model_copy(update={"sizes": (), "known": ()}))
    assert earlier.folder != made.folder, "what is staged of one cut is no part of the other"
    classifier = Parity(2)
    run_shards(lake, TASK, settings, DAY, "r1", classifier)
    assert sorted(classifier.asked) == sorted(texts)
    assert finish(lake, TASK, DAY, "r1").rows["read"] == 40


# Rows


class Told(LabellingTask):
    """A task that counts how often its fingerprint is taken."""

    @property
    def config_hash(self) -> str:
        taken.append(1)
        return "f" * 16


taken: list[int] = []


@pytest.mark.parametrize("task", [make_task(), three_label_task()], ids=["two labels", "three labels"])
def test_rows_are_those_of_a_plain_loop(lake: Lake, settings: Settings, task: LabellingTask) -> None:
    """Texts that come again within a day and on another, and a day that is labelled again with a late document."""
    draw = random.Random(3)  # noqa: S311
    texts = [f"text {draw.randrange(300)}" for _ in range(400)]
    days = {DAY: texts[:200], NEXT: texts[200:]}
    for day, each in days.items():
        drop(lake, task, each, day=day)
        label_run(lake, task, Shelf(task, 1), settings, run="r1", day=day)
    drop(lake, task, [*days[NEXT], "late 1"], day=NEXT, key="late")
    _, classifier = label_run(lake, task, Shelf(task, 1), settings, run="r2", day=NEXT)
    assert classifier.asked == ["late 1"]
    wanted = [
        row
        for day, run, each in ((DAY, "r1", days[DAY]), (NEXT, "r2", [*days[NEXT], "late 1"]))
        for row in plain_rows(task, day, run, each)
    ]
    found = collect(lake.scan("labels", task.name)).select(TABLES["labels"].schema.names)
    assert (
        found.sort("partition", "id").rows() == pl.DataFrame(wanted, schema=found.schema).sort("partition", "id").rows()
    )


def plain_rows(task: LabellingTask, day: Partition, run: str, texts: list[str]) -> Iterator[dict[str, object]]:
    for number, text in enumerate(texts):
        probabilities = Parity(len(task.labels)).predict([text])[0]
        best = int(probabilities.argmax())
        rounded = [nearest(value) for value in probabilities]
        yield {
            "task": task.name,
            "partition": str(day),
            "id": f"{day}-{number}",
            "text_hash": hash_text(text),
            "label": task.label_names[best],
            "confidence": rounded[best],
            "probabilities": [
                {"label": name, "probability": value} for name, value in zip(task.label_names, rounded, strict=True)
            ],
            "model_name": f"llambert.{task.name}",
            "model_version": 1,
            "config_hash": task.config_hash,
            "run": run,
        }


def nearest(value: float) -> float:
    """Return the nearest number of 16 significant bits."""
    if value == 0:
        return 0.0
    scale = 2.0 ** (15 - int(np.floor(np.log2(value))))
    return float(np.floor(value * scale + 0.5) / scale)


@examples(deadline=None, derandomize=True)
@given(value=st.floats(0.0, 1.0))
def test_probabilities_are_kept_to_five_digits(value: float) -> None:
    from llambert_etl.labelling.rows import answers

    (row,) = answers(pl.Series(["a"]), np.array([[value, 1 - value]]), ["x", "y"])["probabilities"].to_list()
    assert row[0] == pytest.approx(value, rel=2**-16, abs=1e-37)
    assert sum(row) == pytest.approx(1.0, abs=1e-4)
    (again,) = answers(pl.Series(["a"]), np.array([row]), ["x", "y"])["probabilities"].to_list()
    assert again == row


def test_a_shard_takes_the_fingerprint_of_its_task_for_its_rows_and_its_manifest(
    lake: Lake, settings: Settings
) -> None:
    drop(lake, TASK, [f"text {number}" for number in range(9_000)])
    one = settings.model_copy(update={"max_shards": 1})
    planned(lake, one, DAY, "r1")
    taken.clear()
    run_shards(lake, Told.model_validate(TASK.model_dump()), one, DAY, "r1", Parity(2))
    assert len(taken) == 2, "of a shard of two chunks"


def test_a_text_that_comes_again_in_a_later_chunk_is_inferred_once(
    lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label, "CHUNK_ROWS", 2)
    drop(lake, TASK, ["same"] * 9 + ["other"] * 3 + [f"text {number}" for number in range(5)])
    _, classifier = label_run(lake, TASK, Shelf(TASK, 1), settings, run="r1")
    assert sorted(classifier.asked) == ["other", "same", *(f"text {number}" for number in range(5))]


# What was said before


def test_only_files_that_have_a_text_of_the_day_are_read(lake: Lake, settings: Settings) -> None:
    drop(lake, TASK, ["a", "b", "seen on the first day"])
    label_run(lake, TASK, Shelf(TASK, 1), settings, run="r1")
    drop(lake, TASK, ["c", "d"], day=NEXT)
    label_run(lake, TASK, Shelf(TASK, 1), settings, run="r2", day=NEXT)
    drop(lake, TASK, ["e"], day=LATER)
    planned(lake, settings, LATER, "before")  # by now both days have their indexes
    for file in files_of(lake, NEXT):
        file.write_bytes(b"nobody reads this")
    drop(lake, TASK, ["new", "seen on the first day"], day=LATER, key="more")
    planned(lake, settings, LATER, "r3")
    classifier = Parity(2)
    run_shards(lake, TASK, settings, LATER, "r3", classifier)
    assert classifier.asked == ["new"]


def test_a_version_that_has_said_nothing_yet_costs_no_look_up(lake: Lake, settings: Settings) -> None:
    drop(lake, TASK, ["a"])
    label_run(lake, TASK, Shelf(TASK, 1), settings, run="r1")
    drop(lake, TASK, ["a"], day=NEXT)
    _, classifier = label_run(lake, TASK, Shelf(TASK, 2), settings, run="r2", day=NEXT)
    assert (classifier.asked, indexes(lake)) == (["a"], set())


def test_an_index_that_is_lost_is_made_again(lake: Lake, settings: Settings) -> None:
    drop(lake, TASK, ["a", "b"])
    label_run(lake, TASK, Shelf(TASK, 1), settings, run="r1")
    drop(lake, TASK, ["a", "c"], day=NEXT)
    planned(lake, settings, NEXT, "before")
    made = {path: path.read_bytes() for path in indexes(lake)}
    for path in made:
        path.unlink()
    _, classifier = label_run(lake, TASK, Shelf(TASK, 1), settings, run="r2", day=NEXT)
    assert classifier.asked == ["c"]
    assert {path: path.read_bytes() for path in indexes(lake)} == made != {}


def damaged(index: Path) -> None:
    index.write_bytes(index.read_bytes()[:-9])


@pytest.mark.parametrize("befalls", [damaged, Path.unlink])
def test_an_index_that_cannot_be_read_is_made_again(
    lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch, befalls: Callable[[Path], None]
) -> None:
    """Damaged, or deleted after it was listed: `maintain` has merged its file meanwhile."""
    drop(lake, TASK, ["a", "b"])
    label_run(lake, TASK, Shelf(TASK, 1), settings, run="r1")
    drop(lake, TASK, ["a", "c"], day=NEXT)
    planned(lake, settings, NEXT, "before")
    made = {path: path.read_bytes() for path in indexes(lake)}
    scan, left = text_index.scan_files, list(made)

    def scan_files(*files: Any, **options: Any) -> pl.LazyFrame:
        while left:
            befalls(left.pop())
        return scan(*files, **options)

    monkeypatch.setattr(text_index, "scan_files", scan_files)
    _, classifier = label_run(lake, TASK, Shelf(TASK, 1), settings, run="r2", day=NEXT)
    assert (classifier.asked, {path: path.read_bytes() for path in indexes(lake)}) == (["c"], made)


def test_texts_are_looked_up_so_many_at_a_time(lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"text {number}" for number in range(60)]
    drop(lake, TASK, texts[:50])
    label_run(lake, TASK, Shelf(TASK, 1), settings, run="r1")
    drop(lake, TASK, texts, day=NEXT)
    monkeypatch.setattr(known, "_AT_ONCE", 7)
    made = planned(lake, settings, NEXT, "r2")
    assert (len(made.known), sum(made.sizes)) == (9, 60)
    classifier = Parity(2)
    run_shards(lake, TASK, settings, NEXT, "r2", classifier)
    assert sorted(classifier.asked) == sorted(texts[50:])


def test_a_text_is_known_by_its_whole_hash(lake: Lake) -> None:
    """Hashes that begin alike are told apart, in one file or in two."""
    alike = [f"{'a' * 40}{number}" for number in range(3)]
    rows = documents("xyz").set_column(
        TABLES["documents"].schema.names.index("text_hash"), "text_hash", pl.Series(alike).to_arrow().cast("string")
    )
    for number in range(2):
        lake.append_once("documents", OTHER_TASK, OTHER_DAY, rows.slice(number, 1), manifest=manifest("r1"))
    files = lake.snapshot("documents").files("documents", OTHER_TASK)["path"].to_list()
    found = collect(scan_texts(lake, "documents", OTHER_TASK, files, pl.Series(alike[1:])))
    assert found["id"].to_list() == ["y"]
