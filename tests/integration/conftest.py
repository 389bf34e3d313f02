"""Fixtures that several of these tests share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from laptop.seaweed import SeaweedFS
from llambert_etl.settings import Settings

# The scenario's phases are fixtures: known to every test here, run when one first asks.
from tests.airflow.phases import (  # noqa: F401
    approved,
    corpus,
    crowned,
    history,
    loop,
    mended,
    refused,
    second_night,
)
from tests.fakes.provider import FakeProvider
from tests.given.batches import BatchHouse
from tests.given.promotion import RIGHT, House
from tests.models.encoders import crafted, pretrained, taught


@pytest.fixture
def client(s3: SeaweedFS) -> Any:
    """A client of S3 that tries once."""
    keys = {"aws_access_key_id": s3.access_key, "aws_secret_access_key": s3.secret_key}
    config = Config(retries={"max_attempts": 0}, max_pool_connections=16, s3={"addressing_style": "path"})
    return boto3.client("s3", endpoint_url=s3.endpoint, region_name="us-east-1", config=config, **keys)


@pytest.fixture
def small_shards(settings: Settings) -> Settings:
    return settings.model_copy(update={"shard_rows": 4, "max_shards": 3, "shard_overhead_seconds": 0})


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


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


@pytest.fixture
def batches(provider: FakeProvider, tmp_path: Path) -> BatchHouse:
    return BatchHouse(provider.url, tmp_path)
