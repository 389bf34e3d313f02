"""The README's ways to read labels are run as they stand, against a real S3."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.schemas import TABLES
from llambert_etl.settings import Settings

README = Path(__file__).parents[2] / "README.md"
DAY = Partition("2026-11-10")


@pytest.fixture
def published(lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A lake with a partition of labels that was published three times, and its credentials in the environment."""
    assert settings.s3_access_key_id is not None
    assert settings.s3_secret_access_key is not None
    monkeypatch.setenv("LLAMBERT_S3_ENDPOINT", str(settings.s3_endpoint))
    monkeypatch.setenv("LLAMBERT_S3_ACCESS_KEY_ID", settings.s3_access_key_id.get_secret_value())
    monkeypatch.setenv("LLAMBERT_S3_SECRET_ACCESS_KEY", settings.s3_secret_access_key.get_secret_value())
    for version in (1, 2, 3):
        rows = [
            {
                "task": "movie_sentiment",
                "partition": DAY,
                "id": str(number),
                "label": "positive" if number % 4 else "negative",
                "confidence": 0.9,
                "model_version": version,
            }
            for number in range(100)
        ]
        table = pa.Table.from_pylist(rows, schema=TABLES["labels"].schema)
        staged = lake.stage("labels", "movie_sentiment", DAY, [table], name="shard-0")
        manifest = Manifest(step="publish", task="movie_sentiment", partition=DAY, run=str(version))
        lake.replace_partition("labels", "movie_sentiment", DAY, staged, commit_key=str(version), manifest=manifest)
    return lake


def test_every_reader_of_the_readme_sees_each_label_once(published: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert [block.splitlines()[0] for block in blocks] == ["# polars", "# pandas and pyarrow", "# DuckDB"]
    names: dict[str, Any] = {}
    for block in blocks:
        here = block.replace("s3://warehouse/lake", published.uri)
        exec(compile(here, str(README), "exec"), names)  # noqa: S102 - our own README
    by_polars, by_pandas = names["labels"].collect(), names["frame"]
    by_duckdb = names["connection"].sql(
        f"SELECT label, count(*), max(model_version) FROM delta_scan('{published.uri}/labels') GROUP BY label"
    )
    assert by_polars.height == len(by_pandas) == 100
    assert sorted(by_duckdb.fetchall()) == [("negative", 25, 3), ("positive", 75, 3)]
    assert "negative" in capsys.readouterr().out
