"""The mirror of the hub's models on S3: killed half-way it does not count, and steps train from it without the hub."""

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from llambert_etl.hub.mirrors import find_model, mirrored, pull
from llambert_etl.lake import Lake
from llambert_etl.settings import Settings
from llambert_etl.store.storage import Storage
from tests.fakes.hub import FILES, NAME, FakeHub
from tests.fakes.proxy import Proxy
from tests.given.tasks import make_task
from tests.processes.children import Child

# Two parts of an upload.
LARGE = 20 * 1024 * 1024


@pytest.fixture
def asking(settings: Settings, hub: FakeHub) -> Settings:
    return settings.model_copy(update={"model_orgs": ["tests"], "hub_endpoint": hub.url, "hub_hosts": ["localhost"]})


def pulling(lake: str, options: dict[str, str], hub: str, revision: str) -> Generator[None, None, int]:
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = False
    settings = Settings(lake=lake, model_orgs=["tests"], hub_endpoint=hub, hub_hosts=["localhost"])
    yield
    return pull(NAME, revision, storage=Storage(lake, options), settings=settings).fetched


@pytest.mark.parametrize(
    ("method", "path", "again"),
    [
        ("PUT", r"/model-00001-of-00002\.safetensors\?.*partNumber=2", 4),
        ("PUT", r"/files\.json", 0),
    ],
    ids=["in the weights", "before the list"],
)
def test_a_pull_that_is_killed_does_not_count_and_the_next_fetches_only_the_rest(
    hub: FakeHub,
    asking: Settings,
    lake: Lake,
    proxy: Proxy,
    proxied: dict[str, str],
    method: str,
    path: str,
    again: int,
) -> None:
    weights = {"model-00001-of-00002.safetensors": os.urandom(1024) * (LARGE // 1024)}
    revision = hub.publish(NAME, FILES | weights)
    with Child(pulling, lake.uri, proxied, hub.url, revision) as child:
        proxy.rule("kill_before", method, path, pid=child.ready().pid)
        child.go()
        assert child.wait() == -signal.SIGKILL
    assert mirrored(lake.storage) == []
    assert pull(NAME, revision, storage=lake.storage, settings=asking).fetched == again
    folder = find_model(NAME, revision, asking)
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES | weights


def test_training_opens_its_encoder_from_the_bucket_with_the_hub_switched_off(
    hub: FakeHub,
    asking: Settings,
    registry_settings: Settings,
    lake: Lake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tests.given.school import School  # late: a child that is to be killed imports no torch
    from tests.models.encoders import pretrained

    revision = hub.publish_folder("tests/bert", pretrained(tmp_path / "bert"))
    pull("tests/bert", revision, storage=lake.storage, settings=asking)
    hub.status = 503
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    pod = registry_settings.model_copy(update={"model_orgs": ["tests"]})
    school = School(pod, make_task(encoder={"model": "tests/bert", "revision": revision}))
    assert school.train("gold")["model_version"] == 1
