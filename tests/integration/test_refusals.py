"""What ingest refuses: each bad row or file is kept with its reason and place, and its neighbours pass."""

import os
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from llambert_etl.sources.records import Reason
from tests.given.landing import DAY, Landing
from tests.given.poison import FILES, LINES, Poison, jsonl, reviews


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path)


@pytest.mark.parametrize("poison", LINES, ids=lambda poison: poison.name)
def test_a_bad_row_is_refused_with_its_place_and_its_neighbours_pass(landing: Landing, poison: Poison) -> None:
    landing.drop("a.jsonl", poison.content())
    check_poison(landing, poison)


@pytest.mark.parametrize("poison", FILES, ids=lambda poison: f"{poison.name} {poison.refused[0][0]}")
def test_a_bad_file_is_one_row_and_the_other_files_pass(landing: Landing, poison: Poison) -> None:
    landing.drop(poison.name, poison.content())
    landing.drop("z.jsonl", jsonl({"id": "neighbour", "text": "fine"}))
    manifest = landing.ingest()
    assert "neighbour" in landing.accepted()
    assert manifest.rows["accepted"] == poison.accepted + 1
    check_refused(landing, poison)


def check_poison(landing: Landing, poison: Poison) -> None:
    manifest = landing.ingest()
    assert manifest.rows["accepted"] == poison.accepted == len(landing.accepted())
    check_refused(landing, poison)


def check_refused(landing: Landing, poison: Poison) -> None:
    refused = landing.rows().filter(pl.col("status") == "rejected")
    assert [(row["reason"], row["place"]) for row in refused.to_dicts()] == [(str(r), p) for r, p in poison.refused]
    assert refused["text"].to_list() == [None] * len(poison.refused)


def test_one_bad_row_in_a_thousand_costs_one_row(landing: Landing) -> None:
    landing.drop("a.jsonl", jsonl(*reviews(500)) + b"\xff\n" + jsonl(*reviews(499, start=500)))
    assert landing.ingest().rows == {"read": 1000, "accepted": 999, "rejected": 1}


def test_ids_are_unique_over_all_the_files_of_a_drop(landing: Landing) -> None:
    landing.drop("a.jsonl", jsonl(*reviews(3)))
    landing.drop("b.jsonl", jsonl(*reviews(2), {"id": "r2", "text": "another"}, {"id": "new", "text": "fine"}))
    manifest = landing.ingest()
    assert landing.accepted() == ["new", "r0", "r1", "r2"]
    assert manifest.reasons == {"duplicate": 2, "id_conflict": 1}


def test_templates_in_text_id_and_file_name_are_literal(landing: Landing) -> None:
    landing.drop("{{ conn.x }} $(rm).jsonl", jsonl({"id": "${HOME}", "text": "{{ conn.x }} {% if %}"}))
    landing.ingest()
    row = landing.rows().to_dicts()[0]
    assert (row["id"], row["text"]) == ("${HOME}", "{{ conn.x }} {% if %}")
    assert row["source"].endswith("{{ conn.x }} $(rm).jsonl")


@pytest.mark.parametrize("name", ["a%2fb.jsonl", "a\\b.jsonl", "a\nb.jsonl"])
def test_a_file_name_that_stores_read_differently_is_refused_unread(landing: Landing, name: str) -> None:
    landing.drop(name, jsonl(*reviews(2)))
    assert landing.ingest().reasons == {"file_unsafe_name": 1}
    assert landing.accepted() == []


def test_a_file_name_that_is_no_unicode_does_not_stop_the_drop(landing: Landing) -> None:
    landing.drop("a.jsonl", jsonl(*reviews(1)))
    os.rename(landing.folder / DAY / "a.jsonl", os.fsencode(landing.folder / DAY) + b"/caf\xe9.jsonl")
    assert landing.ingest().rows["accepted"] == 1


values = st.one_of(
    st.sampled_from(
        ["", " ", "one", "two", "cafe\u0301", "caf\u00e9", "a\0b", None, 7, 7.5, float("nan"), ["one"], "\ud800"]
    ),
    st.text(max_size=12),
)
records = st.one_of(
    st.fixed_dictionaries(
        {"id": st.one_of(st.integers(0, 5), st.sampled_from(["a", "b", "1"]), values), "text": values}
    ),
    st.fixed_dictionaries({}, optional={"id": values, "text": values}),
    st.lists(values, max_size=2),
)
lines = st.one_of(
    records.map(jsonl), st.binary(min_size=1, max_size=20).map(lambda raw: raw.replace(b"\n", b"x") + b"\n")
)


@hypothesis_settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(drops=st.lists(st.lists(lines, max_size=8).map(b"".join), min_size=1, max_size=3))
def test_what_is_read_is_accepted_or_refused_and_ids_are_unique(
    tmp_path_factory: pytest.TempPathFactory, drops: list[bytes]
) -> None:
    landing = Landing(tmp_path_factory.mktemp("property"))
    for number, content in enumerate(drops):
        landing.drop(f"{number}.jsonl", content)
    manifest, rows = landing.ingest(), landing.rows()
    accepted, refused = rows.filter(pl.col("status") == "accepted"), rows.filter(pl.col("status") == "rejected")
    assert manifest.rows == {"read": rows.height, "accepted": accepted.height, "rejected": refused.height}
    assert accepted["id"].n_unique() == accepted.height
    assert accepted.select("id", "text", "text_hash").null_count().row(0) == (0, 0, 0)
    assert Counter(refused["reason"].to_list()) == manifest.reasons
    assert set(manifest.reasons) <= set(Reason)
