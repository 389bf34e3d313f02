"""The ways to read exports that the documentation shows are run as they stand, on a real S3 and PostgreSQL."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from llambert_etl.exports.published import SCHEMA
from llambert_etl.lake import Lake
from llambert_etl.partition import Partition
from llambert_etl.settings import Settings
from tests.given.exporting import Office
from tests.given.labelling import DAY
from tests.given.tasks import make_task
from tests.processes.postgres import Database, program

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs/sources-and-exports.md").read_text()
NEXT = Partition("2026-11-11")


@pytest.fixture
def office(lake: Lake, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> Office:
    """Two days of `movie_sentiment`, exported to both places, and the lake's credentials in the environment."""
    assert settings.s3_access_key_id is not None
    assert settings.s3_secret_access_key is not None
    monkeypatch.setenv("LLAMBERT_S3_ENDPOINT", str(settings.s3_endpoint))
    monkeypatch.setenv("LLAMBERT_S3_ACCESS_KEY_ID", settings.s3_access_key_id.get_secret_value())
    monkeypatch.setenv("LLAMBERT_S3_SECRET_ACCESS_KEY", settings.s3_secret_access_key.get_secret_value())
    office = Office(lake, settings, [])
    office.task = make_task(
        name="movie_sentiment", export=["parquet", {"connection": "warehouse", "table": "movie_labels"}]
    )
    office.connect(database.uri)
    for day in (DAY, NEXT, DAY):
        office.publish(day)
        office.export(day)
    return office


def blocks(kind: str, text: str = DOCS) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", text, flags=re.DOTALL)


def test_every_reader_of_a_parquet_export_sees_each_label_once(office: Office, capsys: pytest.CaptureFixture) -> None:
    here = {"s3://warehouse/lake": office.lake.uri, "warehouse/lake": office.lake.uri.removeprefix("s3://")}
    (pandas,) = blocks("python")
    names: dict[str, Any] = {}
    readme = blocks("python", (ROOT / "README.md").read_text())
    for block in (pandas, readme[0], readme[-1]):
        for there, local in here.items():
            block = block.replace(there, local)
        exec(compile(block, "docs", "exec"), names)  # noqa: S102 - our own documentation
    assert sorted(names["frame"]["id"]) == [f"{DAY}-0", f"{NEXT}-0"]
    duckdb = next(block for block in blocks("sql") if block.startswith("-- DuckDB"))
    found = names["connection"].sql(duckdb.replace("s3://warehouse/lake", office.lake.uri)).fetchall()
    assert [(str(day), label, count) for day, label, count in found] == [(DAY, "positive", 1), (NEXT, "positive", 1)]
    assert "positive" in capsys.readouterr().out


def test_the_queries_of_the_warehouse_run_in_psql(office: Office, database: Database) -> None:
    psql = next(block for block in blocks("sql") if block.startswith("-- psql"))
    said = subprocess.run(
        [*program("psql"), "--no-psqlrc", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", database.uri],
        input=psql,
        capture_output=True,
        text=True,
        check=True,
    )
    labels, *books = said.stdout.splitlines()
    assert labels.startswith("positive|1|")
    assert [row.split("|")[0] for row in books] == [DAY, NEXT]


def test_the_documentation_lists_the_columns_of_an_export() -> None:
    table = DOCS[DOCS.index("| column | Parquet | SQL |") :]
    rows = re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE)
    assert [name for row in rows for name in re.findall(r"`(\w+)`", row)] == SCHEMA.names
