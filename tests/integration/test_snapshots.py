"""Parquet snapshots: who follows `latest.json` sees whole publishes only, whatever races or is killed meanwhile."""

import datetime
import hashlib
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from llambert_etl.errors import ConfigError, DataError
from llambert_etl.exports import index
from llambert_etl.exports.published import find_published, published_rows
from llambert_etl.exports.snapshots import drop_old_snapshots
from llambert_etl.lake import Lake, stream
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.schemas import TABLES
from llambert_etl.settings import Settings
from llambert_etl.steps.export import NO_LABELS
from tests.fakes.proxy import Fault, Proxy
from tests.given.exporting import Office, exporting, wait_until
from tests.given.labelling import DAY, NEXT
from tests.given.tasks import make_task
from tests.processes.forks import Fork

TEXTS = ("good a", "bad b", 'odd "c"\n\u00fc')
FUTURE = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture
def on_s3(lake: Lake, settings: Settings) -> Office:
    return Office(lake, settings, "parquet")


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """A lake in a local folder."""
    lake = Lake(str(tmp_path / "lake"))
    lake.create_tables()
    return Office(lake, Settings(lake=lake.uri, state=tmp_path / "state"), "parquet")


@pytest.fixture(params=["on_s3", "office"])
def anywhere(request: pytest.FixtureRequest) -> Office:
    office: Office = request.getfixturevalue(request.param)
    return office


def test_each_label_is_exported_once_with_its_text_and_its_model(anywhere: Office) -> None:
    anywhere.label(*TEXTS)
    anywhere.label("next", day=NEXT)
    first, second = anywhere.export(), anywhere.export(NEXT)
    assert anywhere.snapshot() == anywhere.published() | anywhere.published(NEXT)
    assert (first.rows, first.facts["exports"]) == ({"read": 3, "exported": 3, "held": 0}, {"parquet": "exported"})
    one, two = anywhere.latest.files
    assert (one.partition, one.rows, one.model_version) == (DAY, 3, 1)
    assert (two.partition, two.rows, two.model_version) == (NEXT, 1, 2)
    assert [one.labels_version, two.labels_version] == [m.versions_read["labels"] for m in (first, second)]


@pytest.mark.parametrize("rows", [1, 10, 1000])
def test_a_day_of_several_chunks_is_exported_whole(office: Office, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(index, "CHUNK_ROWS", rows)
    office.label(*(f"text {number % 30}" for number in range(40)))
    office.drop(*(f"text {number % 30}" for number in range(39)), "other")
    assert office.outcome() == "exported"
    assert office.snapshot() == office.published()
    assert [text for text, _, _ in office.snapshot().values()].count(None) == 1


def test_both_tables_are_read_once(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "CHUNK_ROWS", 10)
    office.label(*(f"text {number}" for number in range(40)))
    read = list[set[str]]()

    def noting(frame: pl.LazyFrame, rows: int, chunk_rows: int) -> Iterator[pl.DataFrame]:
        read.append(set(re.findall(r"/lake/(\w+)", frame.explain())))
        return stream(frame, rows, chunk_rows)

    monkeypatch.setattr(index, "stream", noting)
    office.export()
    assert read == [{"labels"}, {"documents"}]
    assert office.snapshot() == office.published()


def test_two_labels_of_one_id_are_not_exported(office: Office) -> None:
    office.label(*TEXTS)
    rows = office.lake.scan("labels", office.task.name, DAY).collect()
    twice = pl.concat([rows, rows.head(1)]).to_arrow().cast(TABLES["labels"].schema)
    staged = office.lake.stage("labels", office.task.name, DAY, [twice], name="twice")
    manifest = Manifest(
        step="publish",
        task=office.task.name,
        partition=DAY,
        run="r",
        rows={"read": 4, "inferred": 4},
        facts={"model_version": 1},
    )
    office.lake.replace_partition("labels", office.task.name, DAY, staged, commit_key="twice", manifest=manifest)
    with pytest.raises(DataError, match="an id has more than one label; see the runbook, `restore a table`"):
        office.export()
    assert office.latest.files == ()


def test_the_sha256_of_a_file_is_that_of_its_bytes(office: Office) -> None:
    office.label(*TEXTS)
    office.export()
    (file,) = office.latest.files
    content = office.lake.storage.read(f"exports/{office.task.name}/{file.path}")
    assert content is not None
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (file.sha256, file.bytes)


def test_exporting_again_writes_nothing_unless_a_file_is_lost(anywhere: Office) -> None:
    anywhere.label(*TEXTS)
    assert anywhere.outcome() == "exported"
    before = anywhere.latest
    assert anywhere.outcome() == "held"
    assert anywhere.latest == before
    for info in anywhere.lake.storage.list(f"exports/{anywhere.task.name}/{DAY}"):
        anywhere.lake.storage.delete(info)
    assert anywhere.outcome() == "exported"
    assert anywhere.snapshot() == anywhere.published()


def test_new_labels_come_in_a_new_folder_and_readers_of_the_old_one_read_on(office: Office) -> None:
    office.label(*TEXTS)
    office.export()
    old, rows = office.latest, office.snapshot()
    office.label()
    assert office.outcome() == "exported"
    assert office.snapshot() == office.published() != rows
    assert office.snapshot(old) == rows


@pytest.mark.parametrize("name", ["exports", "labels"])
def test_a_task_may_be_named_like_a_folder_of_the_lake(tmp_path: Path, name: str) -> None:
    lake = Lake(str(tmp_path / "exports" / "lake"))
    lake.create_tables()
    office = Office(lake, Settings(lake=lake.uri, state=tmp_path / "state"), "parquet", name)
    for _ in range(2):
        office.label(*TEXTS)
        office.export()
    assert (drop_old_snapshots(lake, FUTURE), len(office.folders())) == (1, 1)
    assert office.snapshot() == office.published()


def test_maintain_keeps_what_is_named_or_was_until_lately(anywhere: Office) -> None:
    anywhere.label(*TEXTS)
    anywhere.export()
    # S3 knows when a file was written to the second.
    before = max(info.mtime for info in anywhere.lake.storage.list("exports")) + datetime.timedelta(seconds=1)
    wait_until(lambda: datetime.datetime.now(datetime.UTC) >= before)
    anywhere.label()
    anywhere.export()
    assert (drop_old_snapshots(anywhere.lake, before), len(anywhere.folders())) == (0, 2)
    assert drop_old_snapshots(anywhere.lake, FUTURE) == 1
    assert len(anywhere.folders()) == 1
    assert anywhere.snapshot() == anywhere.published()


def test_days_that_are_exported_at_once_are_all_named(anywhere: Office) -> None:
    days = [Partition(f"2026-10-{number:02}") for number in range(1, 9)]
    for day in days:
        anywhere.publish(day)
    with ThreadPoolExecutor(len(days)) as pool:
        list(pool.map(anywhere.export, days))
    assert [file.partition for file in anywhere.latest.files] == days


def test_older_labels_never_take_the_place_of_newer_ones(office: Office) -> None:
    office.label(*TEXTS)
    older = find_published(office.lake, office.task.name, DAY)
    assert older is not None
    rows = list(published_rows(office.lake, older, office.settings.state))
    office.label()
    newer = find_published(office.lake, office.task.name, DAY)
    assert newer is not None

    def overtaken() -> Iterator[pa.RecordBatch]:
        yield from rows
        office.export()

    assert office.bring(older, overtaken()) == "newer"
    assert office.latest.files[0].labels_version == newer.version
    assert office.bring(older, rows) == "newer"
    assert office.snapshot() == office.published()


def test_a_text_that_has_changed_since_is_left_out_until_its_label_follows(office: Office) -> None:
    office.label("one a", "two b")
    office.drop("one a", "other")
    office.export()
    assert {key: row[0] for key, row in office.snapshot().items()} == {f"{DAY}-0": "one a", f"{DAY}-1": None}
    office.label()
    office.export()
    assert office.snapshot()[f"{DAY}-1"][0] == "other"


def test_labels_that_are_not_all_there_are_not_exported(office: Office) -> None:
    office.label(*TEXTS)
    office.export()
    before = office.latest
    published = find_published(office.lake, office.task.name, DAY)
    assert published is not None
    more = published._replace(rows=4, version=published.version + 1)
    with pytest.raises(DataError, match="3 rows read, 4 were published"):
        office.bring(more, published_rows(office.lake, more, office.settings.state))
    assert office.latest == before


def test_a_day_without_labels_is_no_error_and_a_task_without_an_export_is(office: Office) -> None:
    assert office.export().facts == {"skip": NO_LABELS}
    assert office.latest.files == ()
    office.task = make_task()
    with pytest.raises(ConfigError, match="exports to nowhere; set `export:` in its task file"):
        office.export()


@pytest.mark.parametrize("fault", ["kill_before", "kill_after"])
@pytest.mark.parametrize("moment", [r"/labels\.parquet", r"/files\.json", r"/latest\.json"])
def test_an_export_that_is_killed_leaves_a_whole_snapshot_and_a_second_run_ends_it(
    on_s3: Office, proxy: Proxy, tmp_path: Path, moment: str, fault: Fault
) -> None:
    on_s3.label("before a")
    on_s3.export()
    old = on_s3.snapshot()
    on_s3.label(*TEXTS)
    broken = Settings.model_validate({**on_s3.settings.model_dump(exclude_unset=True), "s3_endpoint": proxy.endpoint()})
    with Fork(exporting, on_s3.task, broken, log=tmp_path / "export.log") as fork:
        proxy.rule(fault, "PUT|POST", moment, pid=fork.pid)
        assert fork.wait() == -signal.SIGKILL, fork.last_words
    assert on_s3.snapshot() == (on_s3.published() if (moment, fault) == (r"/latest\.json", "kill_after") else old)
    on_s3.export()
    assert on_s3.snapshot() == on_s3.published()
    assert drop_old_snapshots(on_s3.lake, FUTURE) >= 1
    assert on_s3.snapshot() == on_s3.published()


def test_a_write_of_latest_whose_answer_is_lost_counts_once(on_s3: Office, proxy: Proxy) -> None:
    on_s3.label(*TEXTS)
    on_s3.settings = on_s3.settings.model_copy(update={"s3_endpoint": proxy.endpoint()})
    proxy.rule("drop_after", "PUT", r"/latest\.json")
    assert on_s3.outcome() == "exported"
    assert on_s3.snapshot() == on_s3.published()
