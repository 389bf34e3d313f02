"""A connection is named in a task file and known to the deployment; what is secret is in no file and no message."""

from pathlib import Path
from typing import Any

import pytest

from laptop.environment import variables
from llambert_etl.config.exports import Parquet, Warehouse
from llambert_etl.config.sources import TableSource
from llambert_etl.errors import ConfigError
from llambert_etl.settings import load_settings
from tests.given.tasks import make_task
from tests.unit.test_config import changed, load_task, write_task

SECRET = "s3cret"
URI = f"postgresql://llambert:{SECRET}@warehouse.example/marts"
TABLE = {"connection": "crm", "table": "sales.reviews", "day": "written", "id": "review", "text": "body"}
WAREHOUSE = {"connection": "warehouse", "table": "labels"}


@pytest.mark.parametrize(
    ("export", "places"),
    [
        ("none", []),
        ("parquet", [Parquet()]),
        (WAREHOUSE, [Warehouse(**WAREHOUSE)]),
        (["parquet", WAREHOUSE], [Parquet(), Warehouse(**WAREHOUSE)]),
    ],
)
def test_an_export_is_none_one_place_or_several(tmp_path: Path, export: Any, places: list[object]) -> None:
    assert load_task(write_task(tmp_path, changed("export", export))).export == places


def test_a_source_may_be_a_table(tmp_path: Path) -> None:
    assert load_task(write_task(tmp_path, changed("source", TABLE))).source == TableSource(**TABLE)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("export", URI, r"export: must be none, parquet, \{connection: <name>.*LLAMBERT_CONNECTIONS__<name>"),
        ("export", "csv", r"export: must be none, parquet.*found 'csv'"),
        ("export", ["parquet", "parquet"], "export: names one place twice"),
        ("export", {"connection": "warehouse"}, r"export\.0\.table: is missing; add it"),
        ("export", {**WAREHOUSE, "connection": URI}, r"export\.0\.connection: must be the name .*never in a task file"),
        ("export", {**WAREHOUSE, "table": "a; DROP TABLE b"}, r"export\.0\.table: must be table or schema\.table"),
        ("export", {**WAREHOUSE, "uri": URI}, r"export\.0\.uri: unknown field"),
        ("source", {**TABLE, "connection": URI}, r"source\.connection: must be the name .*never in a task file"),
        ("source", {**TABLE, "connection": f"host=h password={SECRET}"}, r"source\.connection: must be the name"),
        ("source", {**TABLE, "id": 'a" FROM b; --'}, r"source\.id: must be the name of a column"),
        (
            "source",
            {**TABLE, "query": "SELECT 1"},
            r"source\.query: unknown field; .* the fields here are id, text, max_chars, connection, table, day$",
        ),
        ("source.uri", URI, r"source: uri must not be a database's.*source: \{connection: <name>, table"),
        ("source.uri", f"s3://key:{SECRET}@bucket/{{partition}}", "source: uri must not .*hold a password"),
    ],
)
def test_a_uri_in_a_task_file_is_refused_with_the_mend_and_without_its_secret(
    tmp_path: Path, field: str, value: Any, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as refusal:
        load_task(write_task(tmp_path, changed(field, value)))
    assert SECRET not in str(refusal.value)


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One connection in a variable and one in a mounted file; return the folder of the files."""
    monkeypatch.setenv("LLAMBERT_LAKE", str(tmp_path))
    monkeypatch.setenv("LLAMBERT_CONNECTIONS__WAREHOUSE", URI)
    mounted = tmp_path / "secrets"
    mounted.mkdir()
    (mounted / "LLAMBERT_CONNECTIONS__CRM").write_text("postgresql://crm.example/crm\n")
    (mounted / "LLAMBERT_S3_SECRET_ACCESS_KEY").write_text("key\n")
    monkeypatch.setenv("LLAMBERT_SECRETS_DIR", str(mounted))
    return mounted


def test_connections_come_from_variables_and_mounted_files(deployment: Path) -> None:
    settings = load_settings()
    assert settings.connection("warehouse").get_secret_value() == URI
    assert settings.connection("crm").get_secret_value() == "postgresql://crm.example/crm"
    assert settings.s3_secret_access_key is not None
    assert settings.s3_secret_access_key.get_secret_value() == "key"
    assert SECRET not in repr(settings)
    with pytest.raises(ConfigError, match=r"'others': not known here.*\['crm', 'warehouse'\].*_CONNECTIONS__OTHERS"):
        settings.connection("others")


def test_settings_that_are_handed_on_keep_their_connections(deployment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings()
    monkeypatch.delenv("LLAMBERT_CONNECTIONS__WAREHOUSE")
    (deployment / "LLAMBERT_CONNECTIONS__CRM").unlink()
    for name, value in variables(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings().connections == settings.connections


def test_a_connection_of_another_kind_is_refused_without_its_uri(
    deployment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMBERT_CONNECTIONS__WAREHOUSE", f"mysql://user:{SECRET}@h/db")
    with pytest.raises(ConfigError, match="LLAMBERT_CONNECTIONS__WAREHOUSE: .*starts with postgresql://") as refusal:
        load_settings()
    assert SECRET not in str(refusal.value)


def test_what_a_task_exports_is_part_of_its_identity() -> None:
    assert make_task().config_hash == make_task(export="none").config_hash != make_task(export="parquet").config_hash
