"""A real browser on the state that `make demo` left: what people see, and what their browser asked for."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from benchmarks.evidence import EVIDENCE, write
from laptop import Stack
from laptop.stack import REPOSITORY

PICTURES = EVIDENCE / "browser"
STATE = REPOSITORY / ".state"
TASK = "movie_sentiment"
_WIDTH, _HEIGHT = 1400, 900
_seen: dict[str, dict[str, str]] = {}  # what each picture shows
_version: list[str] = []


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    if not (STATE / "summary.json").exists():
        pytest.exit("no state of the demo to look at: run `make demo` first", returncode=1)
    with Stack(STATE) as stack:
        yield stack


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    executable = shutil.which("chromium")
    if executable is None:
        pytest.exit("no `chromium` on PATH: install Debian's package", returncode=1)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        _version.append(browser.version)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def airflow(stack: Stack, chromium: Browser) -> Iterator[BrowserContext]:
    """A browser in which somebody has logged in to Airflow."""
    context = chromium.new_context(viewport={"width": _WIDTH, "height": _HEIGHT}, base_url=stack.airflow.url)
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Username").fill(stack.airflow.username)
    page.get_by_label("Password").fill(stack.airflow.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/")
    page.close()
    yield context
    context.close()


@pytest.fixture(scope="session")
def mlflow(stack: Stack, chromium: Browser) -> Iterator[BrowserContext]:
    """A browser in which somebody has logged in to MLflow."""
    context = chromium.new_context(
        viewport={"width": _WIDTH, "height": _HEIGHT},
        base_url=stack.mlflow.uri,
        http_credentials={"username": stack.mlflow.username, "password": stack.mlflow.password},
    )
    yield context
    context.close()


def keep(page: Page, name: str) -> Path:
    """Keep a picture of the page for people to look at."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    path = PICTURES / f"{name}.png"
    page.screenshot(path=path, animations="disabled")
    address = urlsplit(page.url)
    _seen[path.name] = {"title": page.title(), "page": f"{address.path}#{address.fragment}".rstrip("#")}
    return path


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", action="store_true", help="write docs/evidence/browser.json when all have passed")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if session.config.getoption("--record") and exitstatus == pytest.ExitCode.OK:
        results = {"tests": session.testscollected, "chromium": _version[0], "pictures": _seen}
        write("browser", seeds=[], results=results, command="make verify-browser")
