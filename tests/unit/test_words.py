"""Partition, manifest and settings: small words with one meaning."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from laptop.stack import REPOSITORY
from llambert_etl.errors import ConfigError, DataError
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition, parse_partition
from llambert_etl.settings import Settings, load_settings

DAY = Partition("2026-11-10")


@pytest.mark.parametrize("value", ["2026-11-10", "2024-02-29", "1970-01-01"])
def test_a_day_is_a_partition(value: str) -> None:
    assert parse_partition(value) == value


@pytest.mark.parametrize("value", ["", "None"])
def test_a_run_without_a_key_is_told_so(value: str) -> None:
    with pytest.raises(ConfigError, match="has no partition key; trigger it with one"):
        parse_partition(value)


@pytest.mark.parametrize(
    "value", ["today", "2026-1-1", "2026-02-30", "20261110", "2026-11-10 ", "2026-11-10' OR '1'='1", "2026-11-10T00"]
)
def test_anything_else_is_no_partition(value: str) -> None:
    with pytest.raises(ConfigError, match="is not a day"):
        parse_partition(value)


def test_a_manifest_whose_rows_do_not_add_up_cannot_be_made() -> None:
    with pytest.raises(DataError, match="a row vanished or was counted twice"):
        Manifest(step="ingest", task="t", partition=DAY, run="r", rows={"read": 3, "accepted": 2})


def test_a_manifest_survives_json() -> None:
    made = Manifest(step="ingest", task="t", partition=DAY, run="r", rows={"read": 2, "accepted": 2}, facts={"a": [1]})
    assert Manifest.model_validate_json(made.model_dump_json()) == made


def test_a_missing_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMBERT_LAKE", raising=False)
    with pytest.raises(ConfigError, match="LLAMBERT_LAKE: is missing"):
        load_settings()


def test_a_wrong_setting_is_named_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMBERT_LAKE", "/lake")
    monkeypatch.setenv("LLAMBERT_COMPUTE", "hunter2")
    with pytest.raises(ConfigError, match="LLAMBERT_COMPUTE") as failure:
        load_settings()
    assert "hunter2" not in str(failure.value)


def test_a_secret_comes_from_a_mounted_file_and_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "LLAMBERT_S3_SECRET_ACCESS_KEY").write_text("hunter2")
    monkeypatch.setenv("LLAMBERT_LAKE", "s3://warehouse/lake")
    monkeypatch.setenv("LLAMBERT_SECRETS_DIR", str(tmp_path))
    settings = load_settings()
    assert settings.s3_secret_access_key is not None
    assert settings.s3_secret_access_key.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in settings.model_dump_json()


def test_kubernetes_without_an_image_is_refused() -> None:
    with pytest.raises(ValueError, match="LLAMBERT_KUBERNETES__IMAGE"):
        Settings(lake="/lake", compute="kubernetes")


def test_the_name_of_a_class_means_one_class() -> None:
    modules = sorted((REPOSITORY / "llambert_etl").rglob("*.py"))
    names = Counter(
        node.name for path in modules for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)
    )
    assert len(names) > 200
    assert [name for name, times in names.items() if times > 1 and not name.startswith("_")] == []
