"""What the images of docker/ say must hold together; `make verify-images` builds and runs them."""

import re
import subprocess
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from laptop.host import executable
from laptop.stack import REPOSITORY

DOCKER = REPOSITORY / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))


def named(pattern: str, file: Path) -> list[str]:
    return re.findall(pattern, file.read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize(("image", "writable"), [("airflow", "/home/airflow/"), ("worker", "/tmp/")])  # noqa: S108
def test_the_user_of_an_image_may_write_its_state(image: str, writable: str) -> None:
    (said,) = named(r"LLAMBERT_STATE=(\S+)", DOCKER / f"{image}.Dockerfile")
    assert said.startswith(writable)


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_a_dockerfile_follows_the_rules_of_its_linter(file: Path) -> None:
    done = subprocess.run([executable("hadolint"), str(file)], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_what_a_dockerfile_copies_is_there_and_is_not_ignored(file: Path) -> None:
    allowed = set(named(r"^!(\S+)", REPOSITORY / ".dockerignore"))
    sources = {name for line in named(r"^COPY (?!--from)(.+) \S+$", file) for name in line.split()}
    assert sources <= allowed
    assert all((REPOSITORY / name).exists() for name in sources)
    assert "*" in (REPOSITORY / ".dockerignore").read_text().splitlines()


def test_the_images_take_extras_that_the_package_has() -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = named(r"EXTRAS=([a-z,]+)", DOCKER / "build.sh") + named(r"ARG EXTRAS=(\S+)", DOCKER / "airflow.Dockerfile")
    asked += named(r'"\.\[([a-z]+)\]"', DOCKER / "worker.Dockerfile")
    assert {"airflow,logins,worker,registry", "airflow,logins", "worker"} == set(asked)
    assert {extra for each in asked for extra in each.split(",")} <= set(extras)


def test_every_pin_is_for_each_python_that_the_package_takes() -> None:
    """Debian 12, and what its images are made from, has 3.11.2."""
    needed = {found.name: found.metadata.get("Requires-Python") or "" for found in distributions()}
    assert [name for name, pythons in needed.items() if "3.11.0" not in SpecifierSet(pythons)] == []
