"""A model hub that is away or breaks off: whoever wanted a model is told that trying again helps."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from llambert_etl.encoder.pretrained import load_pretrained
from llambert_etl.errors import TransientError
from llambert_etl.llm.local import LocalAnnotator
from llambert_etl.settings import Settings
from tests.tasks import REVISION, make_task

TASK = make_task()


class _BreaksOff(BaseHTTPRequestHandler):
    """Promises each file a hundred thousand bytes and hangs up after ten."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._head(100_000)

    def do_GET(self) -> None:
        if self.path.startswith("/api/"):
            file = {"type": "file", "path": "config.json", "size": 100_000, "oid": "etag"}
            answer = json.dumps([file] if "/tree/" in self.path else {}).encode()
            self._head(len(answer))
            self.wfile.write(answer)
            return
        self._head(100_000)
        self.wfile.write(b"0123456789")
        self.close_connection = True

    def _head(self, length: int) -> None:
        self.send_response(200)
        headers = {"ETag": '"etag"', "X-Repo-Commit": REVISION, "Content-Length": str(length)}
        for name, value in {**headers, "Content-Type": "application/json"}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def breaks_off() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _BreaksOff) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(params=["annotator", "encoder"])
def wanting(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], object]:
    """Whoever wants a model that is nowhere but on the hub."""
    settings = Settings(lake=str(tmp_path / "lake"), include=tmp_path, model_orgs=["tests"])
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / TASK.prompt.template).write_text("{{ text }} =")
    if request.param == "annotator":
        return lambda: LocalAnnotator.load(TASK, settings).annotate(["dull"])
    return lambda: load_pretrained(TASK.encoder, TASK.label_names, settings)


def use_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, endpoint: str) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the hub's client waits 23 s over its tries


def test_a_hub_that_cannot_be_reached_is_transient(
    wanting: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(monkeypatch, tmp_path, "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(TransientError, match="try again"):
        wanting()


def test_a_download_that_breaks_off_is_transient(
    wanting: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks_off: str
) -> None:
    use_hub(monkeypatch, tmp_path, breaks_off)
    with pytest.raises(TransientError, match="try again"):
        wanting()
