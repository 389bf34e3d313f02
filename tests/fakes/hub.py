"""A small hub on loopback: commits, pages of a tree, large files behind a redirect, and what goes wrong with them.

As the real one, it keeps large files on another host, to which a client must not carry its token.
"""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.fakes.server import Answer, FakeServer, Request, json_answer

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


class FakeHub(FakeServer):
    """Repositories by their path below the address: `org/name` is a model, `datasets/org/name` a data set."""

    def __init__(self) -> None:
        super().__init__()
        self.repos: dict[str, Repo] = {}
        self.asked: list[str] = []  # "METHOD path" of each request, of either host
        self.tokens_elsewhere: list[str] = []  # what the other host was sent as authorisation
        self.cut: dict[str, int] = {}  # file -> after so many bytes
        self.forged: dict[str, bytes] = {}  # file -> other content than the listing's
        self.packs = False  # every file, though nobody asked for it
        self.sends_to = ""  # another place for large files
        self.status = 0  # what every request is answered with
        self.page = ""  # a page in place of every answer of the API
        # One server under two names, which to a client are two hosts.
        self.url, self.elsewhere = self.address, f"http://localhost:{self.port}"

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

    def route(self, request: Request) -> Answer:
        self.asked.append(f"{request.method} {request.path}")
        if request.headers["Host"].startswith("localhost"):
            return self._give(request)
        path = [unquote(part) for part in urlsplit(request.path).path[1:].split("/")]
        api = path[0] == "api"
        if api:
            path = path[1:]
        if path[0] in ("models", "datasets"):
            path = path[1:] if path[0] == "models" else [f"datasets/{path[1]}", *path[2:]]
        (organisation, name, verb, revision), rest = path[:4], "/".join(path[4:])
        if self.status:
            return self.status, {}, b""
        if self.page and api:
            return 200, {}, self.page.encode()
        return self._answer(request, f"{organisation}/{name}", verb, revision, rest)

    def _give(self, request: Request) -> Answer:
        """Answer as the host of large files: whoever has the address may read."""
        if "Authorization" in request.headers:
            self.tokens_elsewhere.append(request.headers["Authorization"])
        name, commit, path = request.path[1:].split("//")
        return self._content(path, self.repos[name].commits[commit][path])

    def _content(self, path: str, content: bytes, **headers: str) -> Answer:
        sent = self.forged.get(path, content)
        if self.packs:
            sent, headers = gzip.compress(sent), {**headers, "Content-Encoding": "gzip"}
        return 200, {"Content-Length": str(len(sent)), **headers}, sent[: self.cut.get(path)]

    def _answer(self, request: Request, name: str, verb: str, revision: str, path: str) -> Answer:
        repo = self.repos.get(name)
        known = request.headers["Authorization"] == f"Bearer {TOKEN}"
        if repo is None or (repo.private and not known):
            return _refused(404 if known else 401, "RepoNotFound")
        commit = repo.refs.get(revision, revision)
        if commit not in repo.commits:
            return _refused(404, "RevisionNotFound")
        files = repo.commits[commit]
        if verb == "revision":
            return json_answer({"id": name.removeprefix("datasets/"), "sha": commit})
        if verb == "tree":
            return self._tree(request.path, files, path)
        if repo.gated and not known:
            return _refused(403, "GatedRepo")
        if path not in files:
            return _refused(404, "EntryNotFound")
        return self._resolve(name, commit, path, files[path])

    def _resolve(self, name: str, commit: str, path: str, content: bytes) -> Answer:
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_entry(path, content)["oid"]}"'}
        if not path.endswith(LARGE):
            return self._content(path, content, **headers)
        large = {"X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Linked-Size": str(len(content))}
        place = self.sends_to or f"{self.elsewhere}/{name}//{commit}//{path}"
        return 302, {"Location": place, **headers, **large}, b""

    def _tree(self, asked: str, files: dict[str, bytes], folder: str) -> Answer:
        deep = "recursive=true" in asked.lower()
        start = int(asked.partition("cursor=")[2] or 0)
        below = {path: content for path, content in files.items() if not folder or path.startswith(f"{folder}/")}
        if folder and not below:
            return _refused(404, "EntryNotFound")
        entries, depth = {}, folder.count("/") + 1 if folder else 0
        for path, content in sorted(below.items()):
            parts = path.split("/")
            if deep or len(parts) == depth + 1:
                entries[path] = _entry(path, content)
            if len(parts) > depth + 1:
                above = "/".join(parts[: depth + 1])
                entries[above] = {"type": "directory", "path": above, "oid": "0" * 40}
        status, headers, page = json_answer(list(entries.values())[start : start + _PAGE])
        if start + _PAGE < len(entries):
            further = f"{self.url}{asked.partition('&cursor=')[0]}&cursor={start + _PAGE}"
            headers["Link"] = f'<{further}>; rel="next"'
        return status, headers, page


def _refused(status: int, code: str) -> Answer:
    return status, {"X-Error-Code": code}, b""


def _entry(path: str, content: bytes) -> dict[str, Any]:
    size, sha256 = len(content), hashlib.sha256(content).hexdigest()
    git = hashlib.sha1(b"blob %d\0" % size + content, usedforsecurity=False).hexdigest()
    lfs = {"lfs": {"oid": sha256, "size": size, "pointerSize": 134}} if path.endswith(LARGE) else {}
    return {"type": "file", "path": path, "size": size, "oid": git, **lfs}
