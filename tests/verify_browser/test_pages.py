"""What people see after the demo: Airflow's pages with our links, the pages that these lead to, and MLflow's."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from laptop import Stack
from laptop.airflow_client import AirflowClient, Run
from tests.verify_browser.conftest import TASK, keep

_SLOW = 60_000  # milliseconds: the first look at a page compiles it, on two busy cores


@pytest.fixture(scope="session")
def published(stack: Stack) -> Run:
    """The newest label run that published."""
    with AirflowClient(stack.airflow.url, stack.airflow.username, stack.airflow.password) as client:
        runs = client.runs(f"{TASK}__label")
        for run in reversed(runs):
            steps = client.task_instances(run.dag, quote(run.run_id, safe=""))
            if any(step.task == "publish" and step.state == "success" for step in steps):
                return run
    pytest.fail("no label run has published")


@pytest.fixture
def page(airflow: BrowserContext) -> Iterator[Page]:
    with _page(airflow) as page:
        yield page


@pytest.fixture
def models(mlflow: BrowserContext) -> Iterator[Page]:
    with _page(mlflow) as page:
        yield page


@contextmanager
def _page(context: BrowserContext) -> Iterator[Page]:
    page = context.new_page()
    page.set_default_timeout(_SLOW)
    yield page
    page.close()


def step_page(run: Run, step: str) -> str:
    """Return the tab on which Airflow shows a step's links."""
    return f"/dags/{run.dag}/runs/{quote(run.run_id, safe='')}/tasks/{step}/details"


def test_every_dag_of_the_task_is_listed(page: Page) -> None:
    page.goto("/dags")
    for kind in ("ingest", "label", "retrain"):
        expect(page.get_by_text(f"{TASK}__{kind}", exact=True).first).to_be_visible(timeout=_SLOW)
    keep(page, "airflow-dags")


def test_the_retrain_form_asks_for_sample_and_strategy(page: Page) -> None:
    page.goto(f"/dags/{TASK}__retrain")
    page.get_by_role("button", name=re.compile("Trigger")).first.click()
    for field in ("Sample", "Strategy"):
        expect(page.get_by_text(field, exact=True).first).to_be_visible(timeout=_SLOW)
    keep(page, "airflow-retrain-form")


def test_the_relabel_form_asks_for_two_days(page: Page) -> None:
    page.goto(f"/dags/{TASK}__relabel")
    page.get_by_role("button", name=re.compile("Trigger")).first.click()
    for field in ("From", "To"):  # a field that must be filled in has a star
        expect(page.get_by_text(f"{field} *", exact=True).first).to_be_visible(timeout=_SLOW)
    keep(page, "airflow-relabel-form")


def test_a_step_links_to_its_model_its_data_docs_and_its_partition(page: Page, published: Run) -> None:
    page.goto(step_page(published, "publish"))
    for name in ("MLflow", "Data Docs", "Labelled partition"):
        expect(page.get_by_role("link", name=name).first).to_be_visible(timeout=_SLOW)
    keep(page, "airflow-step")


@pytest.mark.parametrize(
    ("link", "shown", "picture"),
    [
        ("Data Docs", "accepted documents without a label", "data-docs"),
        ("Labelled partition", "Mean confidence", "labelled-partition"),
    ],
)
def test_a_link_opens_a_page_that_asks_nobody_else(
    page: Page, published: Run, stack: Stack, link: str, shown: str, picture: str
) -> None:
    page.goto(step_page(published, "publish"))
    address = page.get_by_role("link", name=link).first.get_attribute("href")
    assert address
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    expect(page.get_by_text(shown).first).to_be_visible(timeout=_SLOW)
    keep(page, picture)
    assert all(url.startswith((stack.airflow.url, "data:")) for url in asked), asked


def test_mlflow_shows_the_champion_and_what_gold_says_of_it(models: Page) -> None:
    models.goto(f"/#/models/llambert.{TASK}")
    expect(models.get_by_text("champion").first).to_be_visible(timeout=_SLOW)
    keep(models, "mlflow-model")


def test_a_training_links_to_its_run_with_metrics_and_plots(page: Page, models: Page, stack: Stack) -> None:
    with AirflowClient(stack.airflow.url, stack.airflow.username, stack.airflow.password) as client:
        trained = [run for run in client.runs(f"{TASK}__retrain") if run.kind == "manual"][-1]
    page.goto(step_page(trained, "train"))
    address = page.get_by_role("link", name="MLflow").first.get_attribute("href")
    assert address
    models.goto(address)
    expect(models.get_by_text("gold.macro_f1").first).to_be_visible(timeout=_SLOW)
    keep(models, "mlflow-run")
