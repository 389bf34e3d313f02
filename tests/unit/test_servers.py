"""Where servers are and with which key: from variables and mounted files, checked, and never shown."""

import json
import traceback
from pathlib import Path

import polars as pl
import pytest

from llambert_etl.errors import ConfigError
from llambert_etl.lake import Lake
from llambert_etl.settings import load_settings
from tests.given.labelling import drop
from tests.given.tasks import make_task


def test_address_and_key_come_from_variables_and_mounted_files_and_the_key_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "LLAMBERT_SERVERS__gpt__API_KEY").write_text("hunter2\n")
    monkeypatch.setenv("LLAMBERT_LAKE", "/lake")
    monkeypatch.setenv("LLAMBERT_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("LLAMBERT_SERVERS__GPT__URL", "https://api.openai.com/v1")
    monkeypatch.setenv("LLAMBERT_SERVERS__GPT__CONCURRENCY", "4")
    monkeypatch.setenv("LLAMBERT_PRICES", json.dumps({"gpt-4-0613": {"input": 30, "output": 60}}))
    settings = load_settings()
    server = settings.server("gpt")
    assert server.api_key is not None
    assert (server.api_key.get_secret_value(), server.concurrency) == ("hunter2", 4)
    assert settings.prices["gpt-4-0613"].output == 60
    assert "hunter2" not in repr(settings) + settings.model_dump_json()


@pytest.mark.parametrize(
    ("name", "url"),
    [
        *(
            ("LLAMBERT_SERVERS__GPT__URL", url)
            for url in (
                "file:///etc/passwd",
                "https://user:hunter2@host/v1",
                "https://host/v1?key=x",
                "gpt.example",
                "http://host:99999/v1",
                "http://host:port/v1",
                "http://[::1/v1",
                "http://host..example/v1",
                "http://snow☃man/v1",
            )
        ),
        *(
            (name, address)
            for name in ("LLAMBERT_S3_ENDPOINT", "LLAMBERT_MLFLOW_URI", "LLAMBERT_HUB_ENDPOINT")
            for address in ("localhost:9000", "file:///etc", "http://user:hunter2@host", "https://host/?token=hunter2")
        ),
        ("LLAMBERT_LAKE", "s3://key:hunter2@bucket/lake"),
        ("LLAMBERT_LAKE", "http://user:hunter2@host"),
        ("LLAMBERT_LAKE", "postgresql://host/hunter2"),
        ("LLAMBERT_SOURCES", '["s3://landing", "s3://key:hunter2@bucket"]'),
        ("LLAMBERT_SOURCES", '["sql://user:hunter2@warehouse"]'),
        ("LLAMBERT_S3_REGION", "us east 1"),
        ("LLAMBERT_HUB_ENDPOINT", ""),
    ],
)
def test_an_address_that_is_none_or_holds_a_secret_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str
) -> None:
    monkeypatch.setenv("LLAMBERT_LAKE", "/lake")
    monkeypatch.setenv(name, url)
    with pytest.raises(ConfigError, match=name) as refused:
        load_settings()
    assert not url or url not in str(refused.value)
    assert "hunter2" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("name", ["my lake", "josé", "a#b", "50%", "env=prod", "a`b", "{a}"])
@pytest.mark.parametrize("above", ["/data/", "s3://bucket/", ""])
def test_a_lake_in_whose_folder_a_reader_of_delta_tables_finds_no_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, above: str, name: str
) -> None:
    monkeypatch.setenv("LLAMBERT_LAKE", f"{above}{name}/lake")
    with pytest.raises(ConfigError, match="LLAMBERT_LAKE: no folder of it, or above it, may have "):
        load_settings()


def test_a_lake_below_such_a_folder_is_refused_and_one_that_readers_find_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my files").mkdir()
    (tmp_path / "link").symlink_to("my files")
    monkeypatch.chdir(tmp_path / "my files")
    for lake in ("lake", str(tmp_path / "link" / "lake")):
        monkeypatch.setenv("LLAMBERT_LAKE", lake)
        with pytest.raises(ConfigError, match="LLAMBERT_LAKE: .*' '"):
            load_settings()
    plain = tmp_path / "a-b_c.d~e@f+g,h;i&j'k(l)m!n$o:p[q]r*s"
    monkeypatch.setenv("LLAMBERT_LAKE", str(plain))
    lake = Lake.from_settings(load_settings())
    lake.create_tables()
    drop(lake, make_task(), ["a text"])
    assert pl.read_delta(str(plain / "documents"))["text"].to_list() == ["a text"]


@pytest.mark.parametrize("name", ["LLAMBERT_SERVERS__GPT__API_KEY", "LLAMBERT_HUB_TOKEN"])
def test_a_key_that_no_header_can_hold_is_refused_unseen(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("LLAMBERT_LAKE", "/lake")
    monkeypatch.setenv("LLAMBERT_SERVERS__GPT__URL", "https://api.openai.com/v1")
    monkeypatch.setenv(name, "hunter2\r\nX-Evil: 1")
    with pytest.raises(ConfigError, match=f"{name}: .*printable ASCII") as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("name", ["LLAMBERT_SOURCES", "LLAMBERT_ALERTS"])
def test_a_list_or_map_that_is_no_json_is_refused_unseen(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("LLAMBERT_LAKE", "/lake")
    monkeypatch.setenv(name, "hunter2")
    with pytest.raises(ConfigError, match=rf'{name}: must be JSON.*\["s3://landing/"\]') as refused:
        load_settings()
    assert "hunter2" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    ("name", "said"), [("file", "must reference a directory, not a file"), ("nowhere", "nowhere.* does not exist")]
)
def test_a_folder_of_secrets_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setenv("LLAMBERT_LAKE", "/lake")
    (tmp_path / "file").touch()
    monkeypatch.setenv("LLAMBERT_SECRETS_DIR", str(tmp_path / name))
    with pytest.raises(ConfigError, match=f"LLAMBERT_SECRETS_DIR: .*{said}"):
        load_settings()
