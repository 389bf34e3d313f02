"""Ingest on a real lake: nothing vanishes, nothing doubles, nothing is read that is still being written."""

import itertools
import threading
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from llambert_etl.errors import DataError, TransientError
from llambert_etl.run import Run
from llambert_etl.sources.files import FileDrop
from llambert_etl.steps.check import check_documents
from tests.given.landing import DAY, NEXT, Landing, listed
from tests.given.poison import jsonl, parquet, reviews
from tests.given.tasks import make_task


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
