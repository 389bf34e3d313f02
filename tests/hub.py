"""A small hub on loopback: commits, pages of a tree, large files behind a redirect, and what goes wrong with them.

As the real one, it keeps large files on another host, to which a client must not carry its token.
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_the-token-of-these-tests"
# A model of two large files and three small ones.
NAME = "tests/model"
FILES = {
    "config.json": b"{}",
    "model-00001-of-00002.safetensors": b"one" * 1000,
    "model-00002-of-00002.safetensors": b"two" * 1000,
    "model.safetensors.index.json": b'{"weight_map": {}}',
    "tokenizer.json": b'{"version": "1.0"}',
}
LARGE = (".safetensors", ".parquet", ".bin")
_PAGE = 2


@dataclass
class Repo:
    """The files of each commit, what branches and tags stand for, and who may read."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False


class FakeHub:
    """Repositories by their path below the address: `org/name` is a model, `datasets/org/name` a data set."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.asked: list[str] = []  # "METHOD path" of each request, of either host
        self.tokens_elsewhere: list[str] = []  # what the other host was sent as authorisation
        self.cut: dict[str, int] = {}  # file -> after so many bytes
        self.forged: dict[str, bytes] = {}  # file -> other content than the listing's
        self.sends_to = ""  # another place for large files
        self.status = 0  # what every request is answered with
        self.page = ""  # a page in place of every answer of the API
        self._servers = [self._serve(_Api), self._serve(_Elsewhere)]
        self.url, self.elsewhere = (
            f"http://{host}:{server.server_port}"
            for host, server in zip(("127.0.0.1", "localhost"), self._servers, strict=True)
        )

    def publish(self, name: str, files: Mapping[str, bytes], *, ref: str = "main") -> str:
        """Commit these files, and nothing else, to a repository; return the commit."""
        repo = self.repos.setdefault(name, Repo())
        digest = hashlib.sha1(f"{name}{len(repo.commits)}".encode(), usedforsecurity=False)
        repo.refs[ref] = digest.hexdigest()
        repo.commits[digest.hexdigest()] = dict(files)
        return digest.hexdigest()

    def publish_folder(self, name: str, folder: Path, **more: bytes) -> str:
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        return self.publish(name, {**files, **more})

    def fetched(self, name: str) -> int:
        """Return how often a file was asked for."""
        return sum(f"/{name}" in asked for asked in self.asked if "/resolve/" in asked)

    def stop(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def _serve(self, handler: type["_Handler"]) -> ThreadingHTTPServer:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, self))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return server


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    hub = FakeHub()
    try:
        yield hub
    finally:
        hub.stop()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: FakeHub, *arguments: Any) -> None:
        self.hub = hub
        super().__init__(*arguments)

    def log_message(self, *_: object) -> None:
        pass

    def send(self, status: int, body: bytes = b"", cut: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body if cut is None else body[:cut])
        self.close_connection = self.close_connection or cut is not None


class _Elsewhere(_Handler):
    """The host of large files: whoever has the address may read."""

    def do_GET(self) -> None:
        self.hub.asked.append(f"GET {self.path}")
        if "Authorization" in self.headers:
            self.hub.tokens_elsewhere.append(self.headers["Authorization"])
        name, commit, path = self.path[1:].split("//")
        content = self.hub.repos[name].commits[commit][path]
        self.send(200, self.hub.forged.get(path, content), self.hub.cut.get(path))


class _Api(_Handler):
    def do_GET(self) -> None:
        self.hub.asked.append(f"GET {self.path}")
        path = [unquote(part) for part in urlsplit(self.path).path[1:].split("/")]
        api = path[0] == "api"
        if api:
            path = path[1:]
        if path[0] in ("models", "datasets"):
            path = path[1:] if path[0] == "models" else [f"datasets/{path[1]}", *path[2:]]
        (organisation, name, verb, revision), rest = path[:4], "/".join(path[4:])
        if self.hub.status:
            return self.send(self.hub.status)
        if self.hub.page and api:
            return self.send(200, self.hub.page.encode())
        self._answer(f"{organisation}/{name}", verb, revision, rest)

    def _answer(self, name: str, verb: str, revision: str, path: str) -> None:
        repo = self.hub.repos.get(name)
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repo is None or (repo.private and not known):
            return self.send(404 if known else 401, X_Error_Code="RepoNotFound")
        commit = repo.refs.get(revision, revision)
        if commit not in repo.commits:
            return self.send(404, X_Error_Code="RevisionNotFound")
        files = repo.commits[commit]
        if verb == "revision":
            return self.send(200, json.dumps({"id": name.removeprefix("datasets/"), "sha": commit}).encode())
        if verb == "tree":
            return self._tree(files, path)
        if repo.gated and not known:
            return self.send(403, X_Error_Code="GatedRepo")
        if path not in files:
            return self.send(404, X_Error_Code="EntryNotFound")
        self._resolve(name, commit, path, files[path])

    def _resolve(self, name: str, commit: str, path: str, content: bytes) -> None:
        headers = {"X_Repo_Commit": commit, "ETag": f'"{_entry(path, content)["oid"]}"'}
        if not path.endswith(LARGE):
            return self.send(200, self.hub.forged.get(path, content), self.hub.cut.get(path), **headers)
        large = {"X_Linked_Etag": f'"{hashlib.sha256(content).hexdigest()}"', "X_Linked_Size": str(len(content))}
        place = self.hub.sends_to or f"{self.hub.elsewhere}/{name}//{commit}//{path}"
        self.send(302, Location=place, **headers, **large)

    def _tree(self, files: dict[str, bytes], folder: str) -> None:
        deep = "recursive=true" in self.path.lower()
        start = int(self.path.partition("cursor=")[2] or 0)
        below = {path: content for path, content in files.items() if not folder or path.startswith(f"{folder}/")}
        if folder and not below:
            return self.send(404, X_Error_Code="EntryNotFound")
        entries, depth = {}, folder.count("/") + 1 if folder else 0
        for path, content in sorted(below.items()):
            parts = path.split("/")
            if deep or len(parts) == depth + 1:
                entries[path] = _entry(path, content)
            if len(parts) > depth + 1:
                above = "/".join(parts[: depth + 1])
                entries[above] = {"type": "directory", "path": above, "oid": "0" * 40}
        page = list(entries.values())[start : start + _PAGE]
        more = {"Link": f'<{self._next(start + _PAGE)}>; rel="next"'} if start + _PAGE < len(entries) else {}
        self.send(200, json.dumps(page).encode(), **more)

    def _next(self, start: int) -> str:
        return f"{self.hub.url}{self.path.partition('&cursor=')[0]}&cursor={start}"


def _entry(path: str, content: bytes) -> dict[str, Any]:
    size, sha256 = len(content), hashlib.sha256(content).hexdigest()
    git = hashlib.sha1(b"blob %d\0" % size + content, usedforsecurity=False).hexdigest()
    lfs = {"lfs": {"oid": sha256, "size": size, "pointerSize": 134}} if path.endswith(LARGE) else {}
    return {"type": "file", "path": path, "size": size, "oid": git, **lfs}
