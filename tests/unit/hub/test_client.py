"""What the hub answers is believed only as far as its hashes go, and no answer leads to another host."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import get_session
from pydantic import SecretStr

from llambert_etl.errors import ConfigError, DataError, LlambertError, TransientError
from llambert_etl.hub.client import Check, Hub, HubFile
from llambert_etl.settings import Settings
from tests.fakes.hub import TOKEN, FakeHub

NAME = "tests/model"
FILES = {f"file-{number}.json": json.dumps([number] * 9).encode() for number in range(5)} | {
    "model.safetensors": b"weights" * 1000,
    "onnx/model.onnx": b"onnx",
}


def client(hub: FakeHub, **changes: Any) -> Hub:
    """Return a client that may follow the hub to its own other host."""
    options = {"hub_endpoint": hub.url, "hub_hosts": ["localhost"], **changes}
    return Hub(Settings(lake="/unused", **options), "this is wanted")


def read(hub: FakeHub, path: str, **changes: Any) -> bytes:
    asking = client(hub, **changes)
    commit = asking.commit("model", NAME, "main")
    (file,) = (file for file in asking.files(commit) if file.path == path)
    return b"".join(asking.read(commit, Check(file)))


def test_a_commit_is_listed_page_by_page_with_the_hash_of_each_file(hub: FakeHub) -> None:
    sha = hub.publish(NAME, FILES)
    asking = client(hub)
    commit = asking.commit("model", NAME, "main")
    assert commit.sha == sha
    assert {file.path: file.size for file in asking.files(commit)} == {
        name: len(content) for name, content in FILES.items() if "/" not in name
    }
    assert [file.path for file in asking.files(commit, "onnx")] == ["onnx/model.onnx"]
    assert len(list(asking.files(commit, deep=True))) == len(FILES)
    assert list(asking.files(commit, "no-such-folder")) == []


@pytest.mark.parametrize("name", ["file-1.json", "model.safetensors"])
def test_a_file_is_read_whole_wherever_the_hub_keeps_it(hub: FakeHub, name: str) -> None:
    hub.publish(NAME, FILES)
    assert read(hub, name) == FILES[name]


def test_the_token_is_for_the_hub_alone(hub: FakeHub) -> None:
    hub.publish(NAME, FILES)
    hub.repos[NAME].private = True
    assert read(hub, "model.safetensors", hub_token=SecretStr(TOKEN)) == FILES["model.safetensors"]
    assert any("//model.safetensors" in asked for asked in hub.asked)
    assert hub.tokens_elsewhere == []


@pytest.mark.parametrize(
    "place",
    [
        "http://169.254.169.254/latest/meta-data/iam",
        "http://localhost.example/weights",
        "http://evil-localhost/weights",
        "ftp://localhost/weights",
        "file:///etc/passwd",
    ],
)
def test_a_redirect_to_a_host_that_is_not_allowed_is_refused(hub: FakeHub, place: str) -> None:
    hub.publish(NAME, FILES)
    hub.sends_to = place
    with pytest.raises(ConfigError, match="LLAMBERT_HUB_HOSTS"):
        read(hub, "model.safetensors")


def test_an_encrypted_hub_is_not_left_for_a_host_that_is_not(hub: FakeHub) -> None:
    client(hub, hub_endpoint="https://127.0.0.1")
    with pytest.raises(ConfigError, match="no plain http from an https hub"):
        get_session().get(hub.url)
    assert hub.asked == []


def test_a_name_that_no_hub_can_have_is_refused(hub: FakeHub) -> None:
    with pytest.raises(ConfigError, match="cannot be a name on the hub"):
        client(hub).commit("model", "tests/a--b", "main")


def test_the_hub_s_other_host_is_not_allowed_by_itself(hub: FakeHub) -> None:
    hub.publish(NAME, FILES)
    with pytest.raises(ConfigError, match="LLAMBERT_HUB_HOSTS"):
        read(hub, "model.safetensors", hub_hosts=["huggingface.co"])
    assert not any("//model.safetensors" in asked for asked in hub.asked)


@pytest.mark.parametrize("name", ["file-1.json", "model.safetensors"])
def test_a_file_that_is_cut_off_is_transient_and_another_one_is_refused(hub: FakeHub, name: str) -> None:
    hub.publish(NAME, FILES)
    hub.cut[name] = 1
    with pytest.raises(TransientError, match="run it again|try again"):
        read(hub, name)
    hub.cut.clear()
    hub.forged[name] = FILES[name][::-1].replace(b"1", b"2")
    with pytest.raises(DataError, match="is not the file that it lists"):
        read(hub, name)
    hub.forged[name] = FILES[name] + b" and more"
    with pytest.raises(DataError, match="is not the file that it lists"):
        read(hub, name)
    hub.forged[name] = FILES[name][:-1]
    with pytest.raises(TransientError, match="run it again"):
        read(hub, name)


def test_a_file_that_comes_packed_is_not_unpacked(hub: FakeHub) -> None:
    hub.publish(NAME, FILES)
    hub.packs = True
    with pytest.raises(TransientError, match=r"the hub sent \d\d of 7000 bytes"):
        read(hub, "model.safetensors")


def test_a_file_that_is_longer_than_the_hub_lists_is_not_read_on() -> None:
    check = Check(HubFile("file.json", 5, "0" * 40))
    assert list(check.follow(itertools.repeat(b"more", 100))) == [b"more"]
    assert not check.right


def test_what_goes_after_it_was_listed_is_transient(hub: FakeHub) -> None:
    hub.publish(NAME, FILES)
    asking = client(hub)
    commit = asking.commit("model", NAME, "main")
    for gone in (HubFile("gone.json", 1, "0" * 40), HubFile("file-1.json", 1, "0" * 40)):
        if gone.path in FILES:
            hub.repos[NAME].commits.clear()
        with pytest.raises(TransientError, match="went after it was listed"):
            list(asking.read(commit, Check(gone)))


@pytest.mark.parametrize(
    ("status", "error"),
    [(429, TransientError), (500, TransientError), (503, TransientError), (400, ConfigError), (403, ConfigError)],
)
def test_a_refusal_is_transient_where_the_hub_may_think_better_of_it(
    hub: FakeHub, status: int, error: type[LlambertError]
) -> None:
    hub.publish(NAME, FILES)
    hub.status = status
    with pytest.raises(error, match=f"model 'tests/model' at main: the hub answered {status}"):
        read(hub, "file-1.json")


@pytest.mark.parametrize("page", ["<html>Please log in</html>", "[]", "null", '{"error": "no"}'])
def test_an_answer_that_is_no_hub_s_is_a_matter_of_settings(hub: FakeHub, page: str) -> None:
    hub.publish(NAME, FILES)
    hub.page = page
    with pytest.raises(ConfigError, match="LLAMBERT_HUB_ENDPOINT"):
        client(hub).commit("model", NAME, "main")


def test_a_hub_that_is_down_is_transient(hub: FakeHub) -> None:
    with pytest.raises(TransientError, match="cannot be reached"):
        client(hub, hub_endpoint="http://127.0.0.1:9").commit("model", NAME, "main")  # nothing listens there


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no repository", "none such, or LLAMBERT_HUB_TOKEN may not read it"),
        ("private", "none such, or LLAMBERT_HUB_TOKEN may not read it"),
        ("no revision", "no such revision"),
        ("gated", "asks for a licence"),
    ],
)
def test_what_may_not_be_read_says_what_to_mend_and_no_secret(hub: FakeHub, change: str, message: str) -> None:
    hub.publish(NAME, FILES)
    repo = hub.repos[NAME]
    repo.gated, repo.private = change == "gated", change == "private"
    if change == "no revision":
        repo.refs.clear()
    if change == "no repository":
        hub.repos.clear()
    with pytest.raises(ConfigError, match=message) as refused:
        read(hub, "file-1.json", hub_token=SecretStr("hf_of-somebody-else"))
    assert "hf_of-somebody-else" not in str(refused.value)


def test_the_hub_is_not_asked_where_the_environment_forbids_it(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="this is wanted, and the hub is not asked where HF_HUB_OFFLINE is set"):
        client(hub)
    assert hub.asked == []


def test_a_token_of_this_machine_is_not_sent(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    hub.publish(NAME, FILES)
    hub.repos[NAME].private = True
    with pytest.raises(ConfigError, match="LLAMBERT_HUB_TOKEN"):
        client(hub).commit("model", NAME, "main")
