"""Batch files carried by hand: a wrong line is told with its place, and nothing of its file is taken."""

import codecs
import json
from pathlib import Path
from typing import Any

import pytest

from llambert_etl.errors import ConfigError, DataError
from tests.fakes.provider import FakeProvider, Line, jsonl
from tests.given.batches import DOCUMENTS, BatchHouse, right


def test_requests_are_written_and_results_read_by_hand(
    batches: BatchHouse, provider: FakeProvider, tmp_path: Path
) -> None:
    file = tmp_path / "requests.jsonl"
    written = batches.write(file)
    assert written.rows == {
        "read": 12,
        "labelled": 0,
        "unparsed": 0,
        "failed": 0,
        "reused": 0,
        "written": 12,
        "left": 0,
    }
    (tmp_path / "results.jsonl").write_bytes(jsonl(batches.results(provider, file)[::-1]))
    assert batches.read(tmp_path / "results.jsonl").rows["labelled"] == DOCUMENTS
    assert right(batches)
    version = batches.lake.version("annotations")
    again = batches.read(tmp_path / "results.jsonl")
    assert (again.rows["labelled"], again.rows["reused"]) == (0, DOCUMENTS)
    assert batches.lake.version("annotations") == version
    assert batches.write(file).rows["written"] == 0
    assert not provider.requests


def missing(lines: list[Line]) -> bytes:
    return jsonl(lines[2:])


def doubled(lines: list[Line]) -> bytes:
    other = json.loads(json.dumps(lines[0]))
    other["response"]["body"]["choices"][0]["message"]["content"] = "Mixed"
    return jsonl([*lines, other])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (doubled, r"results.jsonl line 13: custom_id '[0-9a-f]{64}' has another result in .*results.jsonl line 1;"),
        (
            lambda lines: jsonl([*lines, {**lines[0], "custom_id": "row-7"}]),
            "line 13: custom_id 'row-7' is the text hash of no",
        ),
        (lambda lines: jsonl(lines)[:-30], r"line 12: no result of a batch .*; fetch the file again, it may be cut"),
        (lambda lines: jsonl([{"id": "x"}]), r"line 1: no result of a batch \(custom_id missing\)"),
        (lambda lines: b"<html>", "line 1: no result of a batch"),
        (lambda lines: jsonl(lines).decode().encode("utf-16"), "line 1: is in UTF-16 or no text at all; save"),
        (lambda lines: jsonl(lines).decode().encode("utf-16-le"), "line 1: is in UTF-16 or no text at all; save"),
        (lambda lines: b"\n", "no results in it; fetch the output file"),
    ],
    ids=["doubled", "foreign", "cut", "other rows", "html", "utf-16", "utf-16, no mark", "empty"],
)
def test_a_wrong_line_is_named_and_nothing_is_committed(
    batches: BatchHouse, provider: FakeProvider, tmp_path: Path, spoil: Any, said: str
) -> None:
    file, results = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    batches.write(file)
    results.write_bytes(spoil(batches.results(provider, file)))
    with pytest.raises(DataError, match=said):
        batches.read(results)
    assert batches.rows() == []


def test_results_that_are_missing_fail_and_the_same_result_twice_counts_once(
    batches: BatchHouse, provider: FakeProvider, tmp_path: Path
) -> None:
    file, results = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    batches.write(file)
    results.write_bytes(2 * missing(batches.results(provider, file)))
    done = batches.read(results)
    assert done.rows == {"read": 12, "labelled": 10, "unparsed": 0, "failed": 2, "reused": 0}
    assert done.reasons == {"not_in_batch": 2}


def test_files_that_cannot_be_written_or_read_are_named(batches: BatchHouse, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"requests.jsonl: cannot be written"):
        batches.write(tmp_path / "gone" / "requests.jsonl")
    for folder in (Path("."), tmp_path):
        with pytest.raises(ConfigError, match="is a folder; name a file in it"):
            batches.write(folder)
    with pytest.raises(ConfigError, match=r"gone.jsonl: cannot be read"):
        batches.read(tmp_path / "gone.jsonl")


def test_a_byte_order_mark_is_no_part_of_a_result(batches: BatchHouse, provider: FakeProvider, tmp_path: Path) -> None:
    file, results = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    batches.write(file)
    lines = batches.results(provider, file)
    results.write_bytes(codecs.BOM_UTF8 + jsonl(lines[:5]) + codecs.BOM_UTF8 + jsonl(lines[5:]))
    assert batches.read(results).rows["labelled"] == DOCUMENTS
    assert right(batches)


@pytest.mark.parametrize("order", [1, -1], ids=["error first", "error last"])
def test_an_answer_wins_over_an_error_about_the_same_document(
    batches: BatchHouse, provider: FakeProvider, tmp_path: Path, order: int
) -> None:
    file, results = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    batches.write(file)
    lines = batches.results(provider, file)
    first = {**lines[0], "response": None, "error": {"code": "server_error", "message": "tried again"}}
    second = {**lines[0], "response": {"status_code": 429, "body": {"error": {"code": "rate_limit_exceeded"}}}}
    results.write_bytes(jsonl([first, second, *lines][::order]))
    assert batches.read(results).rows["labelled"] == DOCUMENTS
    assert right(batches)
