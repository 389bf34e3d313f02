"""A model of the hub is mirrored whole or not at all, and opened from the mirror while the hub is away."""

from collections.abc import Callable
from pathlib import Path

import pytest

from llambert_etl.encoder.pretrained import load_pretrained
from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.hub.mirrors import Mirrored, find_model, mirrored, pull
from llambert_etl.lake import Lake
from llambert_etl.llm.local import LocalAnnotator
from llambert_etl.settings import Settings
from tests.fakes.hub import FILES, NAME, FakeHub
from tests.given.tasks import make_task
from tests.models.encoders import pretrained
from tests.models.llms import save_tiny_llama

FORBIDDEN = {
    "pytorch_model.bin": b"\x80\x04pickle",
    "model.pkl": b"\x80\x04pickle",
    "training_args.pt": b"\x80\x04pickle",
    "modeling_x.py": b"raise SystemExit",
    "files.json": b"{}",
    ".gitattributes": b"",
    "consolidated.safetensors": b"other weights",
    "nested/config.json": b"{}",
    "../config.json": b"{}",
    "README.md": b"",
}


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def elsewhere(settings: Settings, tmp_path: Path) -> Settings:
    """Return the settings of another machine of the deployment."""
    return settings.model_copy(update={"state": tmp_path / "other state"})


def go_offline(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.status = 503
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_only_weights_that_cannot_run_tokenizer_and_configuration_are_asked_for(
    hub: FakeHub, settings: Settings, lake: Lake
) -> None:
    revision = hub.publish(NAME, FILES | FORBIDDEN)
    done = pull(NAME, revision, storage=lake.storage, settings=settings)
    assert done == Mirrored(NAME, revision, done.uri, len(FILES), sum(map(len, FILES.values())), len(FILES))
    assert names(Path(done.uri)) == {*FILES, "files.json"}
    asked = [asked.partition(f"/resolve/{revision}/")[2] for asked in hub.asked]
    assert sorted(filter(None, asked)) == sorted(FILES)
    assert names(find_model(NAME, revision, settings)) == set(FILES)


def test_a_whole_mirror_asks_the_hub_nothing(hub: FakeHub, settings: Settings, lake: Lake) -> None:
    revision = hub.publish(NAME, FILES)
    first = pull(NAME, revision, storage=lake.storage, settings=settings)
    hub.status, asked = 503, len(hub.asked)
    assert pull(NAME, revision, storage=lake.storage, settings=settings) == first._replace(fetched=0)
    assert mirrored(lake.storage) == [first._replace(fetched=0)]
    assert len(hub.asked) == asked


def test_a_pull_that_broke_off_does_not_count_and_the_next_fetches_the_rest(
    hub: FakeHub, settings: Settings, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = hub.publish(NAME, FILES)
    hub.cut["model-00002-of-00002.safetensors"] = 10
    with pytest.raises(TransientError):
        pull(NAME, revision, storage=lake.storage, settings=settings)
    assert mirrored(lake.storage) == []
    hub.cut.clear()
    done = pull(NAME, revision, storage=lake.storage, settings=settings)
    assert done.fetched == 3  # the one that broke off and the two behind it
    assert hub.fetched("model-00001-of-00002.safetensors") == 1
    assert names(Path(done.uri)) == {*FILES, "files.json"}


def test_what_lies_there_with_another_content_is_fetched_again(hub: FakeHub, settings: Settings, lake: Lake) -> None:
    revision = hub.publish(NAME, FILES)
    done = pull(NAME, revision, storage=lake.storage, settings=settings)
    folder = Path(done.uri)
    (folder / "files.json").unlink()
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"eno" * 1000)
    (folder / "tokenizer.json").write_bytes(b'{"version": "2.0"}')
    assert pull(NAME, revision, storage=lake.storage, settings=settings).fetched == 2
    assert (folder / "tokenizer.json").read_bytes() == FILES["tokenizer.json"]


def test_another_file_than_the_hub_lists_is_never_mirrored(hub: FakeHub, settings: Settings, lake: Lake) -> None:
    revision = hub.publish(NAME, FILES)
    hub.forged["model-00001-of-00002.safetensors"] = b"eno" * 1000
    with pytest.raises(DataError, match="is not the file that it lists"):
        pull(NAME, revision, storage=lake.storage, settings=settings)
    assert mirrored(lake.storage) == []


@pytest.mark.parametrize("change", ["organisation", "no safetensors", "no config", "another commit"])
def test_a_model_that_may_not_or_cannot_be_mirrored_is_refused(
    hub: FakeHub, settings: Settings, lake: Lake, change: str
) -> None:
    files = dict(FILES)
    if change.startswith("no "):
        files = {name: content for name, content in FILES.items() if change[3:] not in name}
    revision = hub.publish(NAME, files | {"pytorch_model.bin": b"pickle"})
    if change == "another commit":
        hub.repos[NAME].refs["a" * 40] = revision
        revision = "a" * 40
    if change == "organisation":
        settings = settings.model_copy(update={"model_orgs": ["others"]})
    message = {"organisation": "LLAMBERT_MODEL_ORGS", "another commit": "answers so for a{40}"}
    with pytest.raises(ConfigError, match=message.get(change, "choose a revision that has them")):
        pull(NAME, revision, storage=lake.storage, settings=settings)
    assert mirrored(lake.storage) == []


def test_a_named_folder_comes_before_the_mirror_and_the_mirror_before_the_hub(
    hub: FakeHub, settings: Settings, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = hub.publish(NAME, FILES)
    named = settings.model_copy(update={"model_paths": {NAME: tmp_path}})
    assert find_model(NAME, revision, named) == tmp_path
    from_hub = find_model(NAME, revision, settings)
    assert mirrored(lake.storage) == []
    pull(NAME, revision, storage=lake.storage, settings=settings)
    go_offline(hub, monkeypatch)
    assert find_model(NAME, revision, settings) == from_hub
    copy = find_model(NAME, revision, elsewhere(settings, tmp_path))
    assert {name: (copy / name).read_bytes() for name in FILES} == FILES


def test_what_was_fetched_once_opens_while_the_hub_is_away(
    hub: FakeHub, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = hub.publish(NAME, FILES)
    folder = find_model(NAME, revision, settings)
    go_offline(hub, monkeypatch)
    assert find_model(NAME, revision, settings) == folder
    (folder / "config.json").write_bytes(b"[]")
    with pytest.raises(ConfigError, match="llambert models pull"):
        find_model(NAME, revision, settings)


def test_half_a_model_is_not_opened_and_the_next_try_fetches_the_rest(hub: FakeHub, settings: Settings) -> None:
    revision = hub.publish(NAME, FILES)
    hub.cut["tokenizer.json"] = 3
    for _ in range(2):
        with pytest.raises(TransientError):
            find_model(NAME, revision, settings)
    hub.cut.clear()
    assert names(find_model(NAME, revision, settings)) == {*FILES, "files.json"}
    assert hub.fetched("model-00001-of-00002.safetensors") == 1


@pytest.mark.parametrize("place", ["mirror", "copy"])
def test_a_changed_copy_is_made_again_and_a_changed_mirror_is_refused(
    hub: FakeHub, settings: Settings, lake: Lake, place: str, tmp_path: Path
) -> None:
    revision = hub.publish(NAME, FILES)
    mirror = Path(pull(NAME, revision, storage=lake.storage, settings=settings).uri)
    copy = find_model(NAME, revision, settings)
    (mirror if place == "mirror" else copy).joinpath("config.json").write_bytes(b"[]")
    if place == "copy":
        assert (find_model(NAME, revision, settings) / "config.json").read_bytes() == b"{}"
        return
    with pytest.raises(DataError, match="config.json is not the file .* run `llambert models pull` again"):
        find_model(NAME, revision, elsewhere(settings, tmp_path))


@pytest.fixture(params=["annotator", "encoder"])
def opening(request: pytest.FixtureRequest, hub: FakeHub, tmp_path: Path) -> tuple[str, str, Callable[..., object]]:
    """A model on the hub, its revision, and who opens it."""
    folder, name = tmp_path / "published", f"tests/{request.param}"
    (tmp_path / "include" / "prompts").mkdir(parents=True)
    (tmp_path / "include" / "prompts" / make_task().prompt.template).write_text("{{ text }} =")
    revision = hub.publish_folder(name, save_tiny_llama(folder) if request.param == "annotator" else pretrained(folder))
    task = make_task(**{request.param: {"model": name, "revision": revision}})

    def open_it(settings: Settings) -> object:
        if request.param == "annotator":
            return LocalAnnotator.load(task, settings).annotate(["dull"])
        return load_pretrained(task.encoder, task.label_names, settings)

    return name, revision, open_it


def test_annotator_and_encoder_open_from_the_mirror_with_the_hub_switched_off(
    opening: tuple[str, str, Callable[..., object]],
    hub: FakeHub,
    settings: Settings,
    lake: Lake,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, revision, open_it = opening
    pull(name, revision, storage=lake.storage, settings=settings)
    go_offline(hub, monkeypatch)
    asked = len(hub.asked)
    open_it(settings)
    assert len(hub.asked) == asked


def test_a_model_that_is_nowhere_is_a_matter_of_settings_offline_and_of_patience_online(
    opening: tuple[str, str, Callable[..., object]], hub: FakeHub, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, revision, open_it = opening
    hub.status = 503
    with pytest.raises(TransientError, match="try again"):
        open_it(settings)
    go_offline(hub, monkeypatch)
    with pytest.raises(ConfigError, match=f"run `llambert models pull {name} --revision {revision}`"):
        open_it(settings)
