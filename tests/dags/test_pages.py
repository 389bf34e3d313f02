"""The plugin's pages: nobody reads them without Airflow's own permission."""

import importlib.util
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from pydantic import JsonValue

from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.pages import report_name
from llambert_etl.partition import parse_partition
from llambert_etl.schemas import TABLES
from llambert_etl.settings import load_settings
from tests.dags.conftest import ROOT

DAY = "2026-11-10"
REPORT = f"/reports/films/{DAY}/{report_name('labels', 'run-1')}"
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("llambert_pages", ROOT / "plugins" / "llambert_pages.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def manager() -> Any:
    from airflow.api_fastapi.app import init_auth_manager

    return init_auth_manager()


@pytest.fixture
def anonymous(pages: ModuleType, manager: Any) -> Iterator[TestClient]:
    with TestClient(pages.app) as client:
        yield client


@pytest.fixture
def viewer(pages: ModuleType, manager: Any) -> Iterator[TestClient]:
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    token = manager.generate_jwt(SimpleAuthManagerUser(username="viewer", role="viewer"))
    with TestClient(pages.app, headers={"Authorization": f"Bearer {token}"}) as client:
        yield client


@pytest.fixture
def lake() -> Lake:
    lake = Lake.from_settings(load_settings())
    lake.create_tables()
    return lake


def test_every_route_refuses_an_anonymous_caller(pages: ModuleType, anonymous: TestClient) -> None:
    values = {"task": "films", "partition": DAY, "name": report_name("labels", "run-1")}
    paths = [route.path.format(**values) for route in pages.app.routes]
    assert len(paths) == 2
    for path in paths:
        assert anonymous.get(path).status_code == 401
        for method in METHODS:
            assert anonymous.request(method, path).status_code in (401, 405)


def test_forged_token_is_refused(pages: ModuleType, anonymous: TestClient) -> None:
    assert anonymous.get(REPORT, headers={"Authorization": "Bearer forged"}).status_code == 403


def test_no_generated_documentation_is_served(anonymous: TestClient) -> None:
    assert {anonymous.get(path).status_code for path in ("/docs", "/redoc", "/openapi.json")} == {404}


def test_reader_of_the_dag_reads_its_report(viewer: TestClient, lake: Lake) -> None:
    lake.write_report("films", parse_partition(DAY), report_name("labels", "run-1"), "<p>all gates held</p>")
    answer = viewer.get(REPORT)
    assert (answer.status_code, answer.text) == (200, "<p>all gates held</p>")


def test_report_can_neither_run_scripts_nor_reach_anything(viewer: TestClient, lake: Lake) -> None:
    lake.write_report("films", parse_partition(DAY), report_name("labels", "run-1"), "<script>alert(1)</script>")
    headers = viewer.get(REPORT).headers
    assert headers["Content-Security-Policy"].startswith("sandbox; default-src 'none';")
    assert "script-src" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        f"/reports/films/{DAY}/..%2F..%2Fsecret.html",
        f"/reports/films/{DAY}/labels-0123456789abcdef.json",
        f"/reports/..%2Ffilms/{DAY}/labels-0123456789abcdef.html",
        "/reports/films/today/labels-0123456789abcdef.html",
        "/partitions/films/2026-11-10'%20OR%20'1'='1",
        "/partitions/films/2026-02-30",
    ],
)
def test_path_that_names_no_report_reads_nothing(viewer: TestClient, lake: Lake, path: str) -> None:
    assert viewer.get(path).status_code in (404, 422)


def test_report_that_is_not_written_yet_says_so(viewer: TestClient, lake: Lake) -> None:
    answer = viewer.get(REPORT)
    assert answer.status_code == 404
    assert "the gate has not run" in answer.text


def test_partition_without_labels_says_so(viewer: TestClient, lake: Lake) -> None:
    answer = viewer.get(f"/partitions/films/{DAY}")
    assert answer.status_code == 404
    assert "nothing is labelled" in answer.text


def test_labelled_partition_shows_its_shares_and_the_manifest_of_its_commit(viewer: TestClient, lake: Lake) -> None:
    day = parse_partition(DAY)
    facts: dict[str, JsonValue] = {"model": {"name": "llambert.films", "version": 4}}
    manifest = Manifest(step="publish", task="films", partition=day, run="<b>run-1</b>", facts=facts)
    rows = [
        {"task": "films", "partition": DAY, "id": str(number), "label": label, "confidence": 0.75}
        for number, label in enumerate(["bad", "good", "good"])
    ]
    table = pa.Table.from_pylist(rows, schema=TABLES["labels"].schema)
    staged = lake.stage("labels", "films", day, [table], name="shard-0")
    lake.replace_partition("labels", "films", day, staged, commit_key="k", manifest=manifest)
    page = viewer.get(f"/partitions/films/{DAY}").text
    assert "3 documents, labelled by llambert.films version" in page
    assert page.index("66.7 %") < page.index("33.3 %")
    assert "&lt;b&gt;run-1&lt;/b&gt;" in page
    assert "<b>" not in page


def test_airflow_finds_the_plugin() -> None:
    from airflow import plugins_manager

    apps, _ = plugins_manager.get_fastapi_plugins()
    assert "/llambert" in [mounted["url_prefix"] for mounted in apps]
