"""A deployment of the small hub."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from llambert_etl.lake import Lake
from llambert_etl.settings import Settings
from tests.fakes.hub import TOKEN, FakeHub


@pytest.fixture
def settings(hub: FakeHub, tmp_path: Path) -> Settings:
    """A deployment whose lake is a folder, with the small hub as its hub."""
    return Settings(
        lake=str(tmp_path / "lake"),
        state=tmp_path / "state",
        include=tmp_path / "include",
        model_orgs=["tests"],
        hub_endpoint=hub.url,
        hub_hosts=["localhost"],
        hub_token=SecretStr(TOKEN),
    )


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake.from_settings(settings)
