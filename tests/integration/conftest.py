"""Fixtures that several of these tests share."""

from pathlib import Path

import pytest

from llambert_etl.settings import Settings
from tests.encoders import crafted, pretrained, taught
from tests.promotion import RIGHT, House


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    return {
        "right": taught(root / "right", RIGHT),
        "worse": taught(root / "worse", {**RIGHT, "fine": "negative"}),
        "worst": taught(root / "worst", {**RIGHT, "fine": "negative", "poor": "positive"}),
        "collapsed": crafted(root / "collapsed", "positive"),
    }


@pytest.fixture
def house(registry_settings: Settings, encoders: dict[str, Path], tmp_path: Path) -> House:
    house = House(registry_settings, encoders, tmp_path)
    house.gold()
    return house


@pytest.fixture
def usable(registry_settings: Settings, tmp_path: Path) -> Settings:
    mirror = pretrained(tmp_path / "encoder")
    return registry_settings.model_copy(update={"model_paths": {"tests/tiny-bert": mirror}})
