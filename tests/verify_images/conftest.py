"""The images of docker/, built by `make images` and run as a cluster runs them: as their user, on a read-only root."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks.evidence import write
from laptop.stack import REPOSITORY

IMAGES = ("worker", "airflow", "airflow-worker")
PREFIX = os.environ.get("PREFIX", "localhost/llambert")
TAG = os.environ.get("TAG", "verified")  # where it is given, the images are there already
_measured: dict[str, dict[str, object]] = {}


class Image:
    """One built image, and containers of it."""

    def __init__(self, tool: str, name: str) -> None:
        self._tool, self.name = tool, f"{PREFIX}-{name}:{TAG}"

    def inspected(self) -> dict[str, Any]:
        said = subprocess.run([self._tool, "inspect", self.name], capture_output=True, check=True).stdout
        (found,) = json.loads(said)
        assert isinstance(found, dict)
        return found

    def run(self, *argv: str, options: Sequence[str] = (), entrypoint: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in a container that may write to /tmp and its home alone, and reaches no network."""
        strict = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none"]
        own = ["--tmpfs=/tmp", *(["--volume=/home/airflow"] if "airflow" in self.name else [])]
        whole = [] if entrypoint else ["--entrypoint="]
        return subprocess.run(
            [self._tool, "run", "--rm", *strict, *own, *whole, *options, self.name, *argv],
            capture_output=True,
            text=True,
            timeout=240,
        )

    def said(self, *argv: str, **how: Any) -> str:
        """Return what a command that must succeed has written to stdout."""
        done = self.run(*argv, **how)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.strip()


@pytest.fixture(scope="session")
def tool() -> str:
    return _tool()


@pytest.fixture(scope="session", params=IMAGES)
def image(request: pytest.FixtureRequest, tool: str) -> Image:
    return _built(tool, request.param)


@pytest.fixture(scope="session")
def worker(tool: str) -> Image:
    return _built(tool, "worker")


@pytest.fixture(scope="session")
def airflow(tool: str) -> Image:
    return _built(tool, "airflow")


@pytest.fixture(scope="session")
def airflow_worker(tool: str) -> Image:
    return _built(tool, "airflow-worker")


def _built(tool: str, name: str) -> Image:
    image = Image(tool, name)
    if name not in _measured:
        start = time.monotonic()
        if "TAG" not in os.environ:
            environment = {**os.environ, "IMAGES": name, "TAG": TAG, "PREFIX": PREFIX}
            subprocess.run(["make", "--silent", "images"], cwd=REPOSITORY, env=environment, check=True)
        seconds = round(time.monotonic() - start) if "TAG" not in os.environ else None
        found = image.inspected()
        revision = found["Config"]["Labels"]["org.opencontainers.image.revision"]
        _measured[name] = {
            "megabytes": round(found["Size"] / 1e6),
            "built_in_seconds": seconds,
            "revision": revision,
        }
    return image


def _tool() -> str:
    found = next((name for name in ("docker", "podman") if _works(name)), None)
    if found is None:
        pytest.exit("neither docker nor podman runs here", returncode=1)
    return found


def _works(tool: str) -> bool:
    return shutil.which(tool) is not None and not subprocess.run([tool, "info"], capture_output=True).returncode


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", action="store_true", help="write docs/evidence/images.json when all have passed")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if session.config.getoption("--record") and exitstatus == pytest.ExitCode.OK:
        base = os.environ.get("BASE", "python:3.11-slim-bookworm")
        version = subprocess.run([_tool(), "--version"], capture_output=True, text=True, check=True).stdout.strip()
        results = {"tests": session.testscollected, "base": base, "tool": version, "images": _measured}
        write("images", seeds=[], results=results, command="make verify-images")
