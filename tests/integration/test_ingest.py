"""Ingest on a real lake: nothing vanishes, nothing doubles, nothing is read that is still being written."""

import gzip
import io
import itertools
import threading
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.lake import Lake
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.sources.files import FileDrop, Listing
from llambert_etl.steps.check import check_documents
from llambert_etl.steps.ingest import ingest
from llambert_etl.store.s3 import s3_client
from tests.fakes.proxy import Proxy
from tests.given.landing import DAY, Landing, listed
from tests.given.poison import jsonl, parquet, reviews
from tests.given.tasks import make_task

NEXT = Partition("2026-11-11")


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path)


def test_every_row_says_where_it_comes_from(landing: Landing) -> None:
    path = landing.drop("a.jsonl", jsonl({"id": "a", "text": "cafe\u0301"}, {"id": "b", "text": None}))
    manifest = landing.ingest(run="nightly")
    assert manifest.rows == {"read": 2, "accepted": 1, "rejected": 1}
    assert manifest.reasons == {"text_not_text": 1}
    assert landing.rows().sort("id").drop("text_hash").to_dicts() == [
        {
            "task": "reviews",
            "partition": DAY,
            "id": "a",
            "status": "accepted",
            "reason": None,
            "source": str(path),
            "place": "line 1",
            "text": "caf\u00e9",
            "run": "nightly",
        },
        {
            "task": "reviews",
            "partition": DAY,
            "id": "b",
            "status": "rejected",
            "reason": "text_not_text",
            "source": str(path),
            "place": "line 2",
            "text": None,
            "run": "nightly",
        },
    ]


def test_running_again_changes_nothing(landing: Landing) -> None:
    landing.drop("a.jsonl", jsonl(*reviews(5), {"id": "x"}))
    first, rows, version = landing.ingest(), landing.rows(), landing.lake.version("documents")
    again = landing.ingest(run="r2")
    assert (again.rows, again.reasons, again.versions_written) == (first.rows, first.reasons, first.versions_written)
    assert (first.facts["replayed"], again.facts["replayed"]) == (False, True)
    assert landing.lake.version("documents") == version
    assert landing.rows().equals(rows)


def test_an_empty_day_is_no_error_and_says_so(landing: Landing) -> None:
    manifest = landing.ingest()
    assert manifest.rows == {"read": 0, "accepted": 0, "rejected": 0}
    assert manifest.facts["empty"] is True
    assert landing.ingest().facts["replayed"] is True


def test_a_day_of_bad_files_only_is_kept_as_refused_rows(landing: Landing) -> None:
    landing.drop("a.jsonl", b"\x89PNG....")
    assert landing.ingest().rows == {"read": 1, "accepted": 0, "rejected": 1}
    assert landing.rows()["reason"].to_list() == ["file_wrong_kind"]


def test_vanished_files_erase_nothing(landing: Landing) -> None:
    path = landing.drop("a.jsonl", jsonl(*reviews(5)))
    landing.ingest()
    path.unlink()
    with pytest.raises(DataError, match=r"held 1 files when it was .*leave one of them there without rows"):
        landing.ingest()
    assert len(landing.accepted()) == 5


@pytest.mark.parametrize("name", ["*.jsonl", "other.jsonl", "poster.png"])
def test_other_files_that_hold_no_document_erase_nothing(landing: Landing, name: str) -> None:
    landing.task = make_task(source={"uri": f"{landing.folder}/{{partition}}/*"})
    landing.drop("a.jsonl", jsonl(*reviews(5))), landing.drop("b.jsonl", jsonl({"id": "x"}))
    landing.ingest()
    for old in ("a.jsonl", "b.jsonl"):
        (landing.folder / DAY / old).unlink()
    landing.drop(name, b"")
    landing.drop("b.jsonl", b"")
    with pytest.raises(
        DataError, match=r"2 files without one document .* 5 documents came from others, such as 'a.jsonl'"
    ):
        landing.ingest(run="r2")
    assert len(landing.accepted()) == 5
    landing.drop("a.jsonl", b"")
    assert landing.ingest(run="r3").rows["accepted"] == 0
    assert landing.accepted() == []


def test_a_file_that_is_named_like_the_pattern_does_not_stand_for_the_others(landing: Landing) -> None:
    landing.task = make_task(source={"uri": f"{landing.folder}/{{partition}}/*.jsonl"})
    landing.drop("a.jsonl", jsonl(*reviews(5)))
    landing.drop("*.jsonl", b"")
    assert landing.ingest().rows == {"read": 5, "accepted": 5, "rejected": 0}


@pytest.mark.parametrize(
    ("made", "said"), [(False, "its folder is not there"), (True, "nothing in its folder has such")]
)
def test_a_day_without_files_says_whether_its_folder_is_there(
    landing: Landing, caplog: pytest.LogCaptureFixture, made: bool, said: str
) -> None:
    if made:
        (landing.folder / DAY).mkdir()
    with caplog.at_level("WARNING"):
        assert landing.ingest().facts["landing"] == ("no_match" if made else "no_folder")
    assert said in caplog.text
    assert "look at the day and at source.uri" in caplog.text
    landing.drop("a.jsonl", jsonl(*reviews(1)))
    assert landing.ingest(run="r2").facts["landing"] is None


def test_a_field_that_no_row_has_is_said_with_those_that_rows_have(
    landing: Landing, caplog: pytest.LogCaptureFixture
) -> None:
    landing.drop(
        "a.jsonl", jsonl(*({"id": "a", "body": "private", "x" * 70: 1, "\ud800": 2} for _ in range(3)), {"id": "b"})
    )
    with caplog.at_level("WARNING"):
        manifest = landing.ingest()
    assert manifest.facts["absent_fields"] == {"text": ["\\ud800", "body", "id", "x" * 60]}
    assert "no row has the field 'text' (source.text); fields seen: [" in caplog.text
    assert "private" not in caplog.text
    with pytest.raises(DataError, match=r"rejected share: observed 1.00 \(text_missing 4\), expected <= 0.50"):
        check_documents(Run(landing.task, DAY, "r1"), lake=landing.lake)
    landing.drop("b.jsonl", jsonl(*reviews(1)))
    assert landing.ingest(run="r2").facts["absent_fields"] == {}


def test_a_damaged_file_is_one_file_however_many_rows_it_costs(landing: Landing) -> None:
    landing.drop(
        "a.parquet", parquet(id=list(range(50)), text=["x"] * 50)[:4] + parquet(id=list(range(50)), text=["x"] * 50)[8:]
    )
    landing.drop("b.jsonl", jsonl(*reviews(5)))
    landing.drop("_SUCCESS", b"")
    manifest = landing.ingest()
    assert manifest.rows == {"read": 56, "accepted": 5, "rejected": 51}
    assert manifest.reasons == {"file_corrupt": 50, "marker": 1}
    assert manifest.facts["files_refused"] == 1


def test_an_empty_file_takes_a_days_documents_back(landing: Landing) -> None:
    landing.drop("a.jsonl", jsonl(*reviews(5)))
    landing.ingest()
    landing.drop("a.jsonl", b"")
    assert landing.ingest().rows["read"] == 0
    assert landing.accepted() == []


def test_a_changed_file_replaces_its_own_day_only(landing: Landing) -> None:
    landing.drop("a.jsonl", jsonl(*reviews(3)))
    landing.drop("a.jsonl", jsonl(*reviews(3)), NEXT)
    landing.ingest(), landing.ingest(NEXT)
    other = landing.rows(NEXT)
    landing.drop("a.jsonl", jsonl(*reviews(2), {"id": "r2", "text": "corrected"}))
    manifest = landing.ingest(run="r2")
    assert "corrected" in landing.rows()["text"].to_list()
    assert landing.rows(NEXT).equals(other)
    assert (manifest.facts["content_changed"], manifest.facts["accepted_before"]) == (True, 3)


def test_the_same_content_written_again_is_said_to_be_unchanged(landing: Landing) -> None:
    landing.drop("a.jsonl", jsonl(*reviews(3)))
    landing.ingest()
    landing.drop("b.jsonl", jsonl(*reviews(3, start=0)))
    (landing.folder / DAY / "a.jsonl").unlink()
    manifest = landing.ingest()
    assert (manifest.facts["replayed"], manifest.facts["content_changed"]) == (False, False)


def test_what_a_restore_undid_is_taken_in_again(landing: Landing) -> None:
    landing.drop("a.jsonl", jsonl(*reviews(3)))
    landing.ingest()
    good = landing.lake.version("documents")
    landing.drop("b.jsonl", jsonl(*reviews(2, start=3)))
    landing.ingest(run="r2")
    landing.lake.restore("documents", good)
    assert len(landing.accepted()) == 3
    manifest = landing.ingest(run="r3")
    assert (manifest.facts["replayed"], manifest.facts["accepted_before"]) == (False, 3)
    assert len(landing.accepted()) == 5


def test_a_changed_schema_leaves_the_day_as_it_was(landing: Landing) -> None:
    landing.drop("a.jsonl", jsonl(*reviews(3)))
    landing.ingest()
    landing.drop("b.parquet", parquet(id=["x"], body=["y"]))
    with pytest.raises(DataError, match="column 'text' expected once"):
        landing.ingest()
    assert len(landing.accepted()) == 3


@pytest.mark.parametrize("act", ["append", "add"])
def test_a_drop_that_is_still_being_written_is_not_taken(landing: Landing, act: str) -> None:
    path = landing.drop("a.jsonl", jsonl(*reviews(20_000)))
    done = threading.Event()

    def produce() -> None:
        for number in itertools.count():
            if done.is_set():
                return
            with path.with_name("a.jsonl" if act == "append" else f"{number}.jsonl").open("ab") as file:
                file.write(jsonl({"id": number, "text": "and more"}))

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        with pytest.raises(TransientError, match="changed"):
            landing.ingest()
    finally:
        done.set()
        producer.join()
    assert landing.rows().is_empty()


@pytest.mark.parametrize("act", ["append", "add", "remove"])
def test_a_drop_that_changed_since_it_was_listed_is_noticed(landing: Landing, act: str) -> None:
    path = landing.drop("a.jsonl", jsonl(*reviews(1)))
    landing.drop("b.jsonl", jsonl(*reviews(1)))
    drop = listed(FileDrop(landing.task.source, DAY, landing.settings))
    drop.verify_unchanged()
    if act == "remove":
        path.unlink()
    else:
        landing.drop("a.jsonl" if act == "append" else "new.jsonl", jsonl(*reviews(2)))
    with pytest.raises(TransientError, match="changed while"):
        drop.verify_unchanged()


def test_chunks_are_bounded_in_rows_and_bytes_and_join_up(landing: Landing) -> None:
    landing.drop("a.jsonl", jsonl(*({"id": n, "text": "x" * 90_000} for n in range(1_000)), *reviews(25_000)))
    assert landing.ingest().rows["accepted"] == 26_000
    (file,) = (Path(landing.lake.uri) / "documents").rglob("*.parquet")
    footer = pq.read_metadata(file)
    chunks = pl.scan_parquet(file).select("text").collect()["text"].str.len_bytes().to_list()
    ends = itertools.accumulate(footer.row_group(index).num_rows for index in range(footer.num_row_groups))
    starts = [0, *ends]
    for start, end in itertools.pairwise(starts):
        assert end - start <= 20_000
        assert sum(chunks[start:end]) <= (32 << 20) + 90_000


def test_a_bucket_is_read_like_a_folder(s3: Any, bucket: str, lake: Lake, settings: Settings) -> None:
    uri = f"s3://{bucket}/landing/{{partition}}/*"
    task, here = make_task(source={"uri": uri}), settings.model_copy(update={"sources": [f"s3://{bucket}/landing"]})
    client = s3_client(here)
    for name, content in (
        ("a.jsonl.gz", gzip.compress(jsonl(*reviews(3)))),
        ("b.parquet", parquet(id=["p1", "p2"], text=["one", "two"])),
        ("deep/er/c.jsonl", jsonl(*reviews(1, start=9))),
        ("d.jsonl", b""),
    ):
        client.put_object(Bucket=bucket, Key=f"landing/{DAY}/{name}", Body=content)
    manifest = ingest(Run(task, DAY, "r1"), lake=lake, settings=here)
    assert manifest.rows == {"read": 5, "accepted": 5, "rejected": 0}
    assert ingest(Run(task, DAY, "r2"), lake=lake, settings=here).facts["replayed"] is True

    assert FileDrop(task.source, NEXT, here).why_empty() == "no_folder"
    client.put_object(Bucket=bucket, Key=f"landing/{NEXT}/deep/er/c.jsonl", Body=b"")
    assert FileDrop(task.source, NEXT, here).why_empty() == "no_match"

    drop = listed(FileDrop(task.source, DAY, here))
    client.put_object(Bucket=bucket, Key=f"landing/{DAY}/a.jsonl.gz", Body=gzip.compress(jsonl(*reviews(4))))
    with pytest.raises(TransientError, match="changed or went"), drop.open(drop.objects[0]) as raw:
        raw.read(1)
    with pytest.raises(TransientError, match="changed while"):
        drop.verify_unchanged()


def test_small_row_groups_cost_no_request_each(bucket: str, lake: Lake, settings: Settings, proxy: Proxy) -> None:
    here = settings.model_copy(update={"s3_endpoint": proxy.endpoint()})
    task = make_task(source={"uri": f"s3://{bucket}/landing/{{partition}}/*"})
    sink, numbers = io.BytesIO(), [str(number) for number in range(100)]
    pq.write_table(pa.table({"text": numbers, "x": numbers, "id": numbers}), sink, row_group_size=2)
    s3_client(here).put_object(Bucket=bucket, Key=f"landing/{DAY}/a.parquet", Body=sink.getvalue())
    asked = proxy.rule("drop_before", "GET", "a.parquet", nth=1_000)
    ingest(Run(task, DAY, "r1"), lake=lake, settings=here)
    documents = lake.scan("documents", task.name, DAY).select("id", "text").collect()
    assert sorted(documents.rows()) == sorted(zip(numbers, numbers, strict=True))
    assert proxy.seen(asked) < 20


def test_a_bucket_that_cannot_be_read_says_why_and_names_no_key(s3: Any, bucket: str, settings: Settings) -> None:
    here = settings.model_copy(update={"sources": [f"s3://{bucket}", "s3://no-such-bucket"]})
    with pytest.raises(ConfigError, match="no such bucket"):
        listed(Listing("s3://no-such-bucket/a/*.csv", here))
    key = SecretStr("AKIAFORGED0000000000")
    forged = here.model_copy(update={"s3_access_key_id": key, "s3_secret_access_key": key})
    with pytest.raises(ConfigError, match=rf"credentials .*'list' in '{bucket}'") as caught:
        listed(Listing(f"s3://{bucket}/a/*.csv", forged))
    assert "AKIAFORGED" not in str(caught.value)
    gone = here.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"})
    with pytest.raises(TransientError, match="LLAMBERT_S3_ENDPOINT"):
        listed(Listing(f"s3://{bucket}/a/*.csv", gone))
