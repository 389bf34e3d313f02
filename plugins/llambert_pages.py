"""Pages beside Airflow's own: the Data Docs of a gate, and what is labelled in a partition.

Airflow mounts a plugin's app without any authentication, so the app asks for it itself, before any route is looked at.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated

from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.plugins_manager import AirflowPlugin
from fastapi import Depends, FastAPI, HTTPException, Path, Request, Response
from fastapi.responses import HTMLResponse

from llambert_etl import pages
from llambert_etl.errors import LlambertError, TransientError
from llambert_etl.orchestration.links import PAGES
from llambert_etl.partition import parse_partition
from llambert_etl.settings import load_settings

Task = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Day = Annotated[str, Path(pattern=r"^\d{4}-\d{2}-\d{2}$")]
Report = Annotated[str, Path(pattern=r"^(documents|annotations|labels|review)-[0-9a-f]{16}\.html$")]

HEADERS = {
    # No script, no request, no form and an origin of its own: a report may quote what a document or a model said.
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-store",
}


def may_read(request: Request, user: GetUserDep) -> None:
    """Let in who may read the task's Dags. Without a task in the path, who may read any Dag."""
    task = request.path_params.get("task")
    requires_access_dag("GET", param_dag_id=f"{task}__label" if task else None)(request, user)


# The generated documentation would be served without the dependency.
app = FastAPI(dependencies=[Depends(may_read)], docs_url=None, redoc_url=None, openapi_url=None)


@app.middleware("http")
async def harden(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers.update(HEADERS)
    return response


@app.get("/reports/{task}/{partition}/{name}")
def report(task: Task, partition: Day, name: Report) -> HTMLResponse:
    """Serve the Data Docs of one gate in one run."""
    return HTMLResponse(_found(read_report(task, partition, name), "no such report yet: the gate has not run"))


@app.get("/partitions/{task}/{partition}")
def partition(task: Task, partition: Day) -> HTMLResponse:
    """Show what the labels of a partition are now, and the manifest of the commit that made them."""
    return HTMLResponse(_found(read_partition(task, partition), "nothing is labelled in this partition yet"))


def read_report(task: str, day: str, name: str) -> str | None:
    from llambert_etl.lake import Lake  # Airflow's other processes load plugins too, and need no lake

    try:
        return Lake.from_settings(load_settings()).read_report(task, parse_partition(day), name)
    except LlambertError as error:
        raise _failure(error) from error


def read_partition(task: str, day: str) -> str | None:
    import polars as pl

    from llambert_etl.lake import Lake
    from llambert_etl.store.faults import store_faults

    try:
        lake, partition = Lake.from_settings(load_settings()), parse_partition(day)
        commit = lake.last_commit("labels", task, partition)
        with store_faults("labels"):
            labels = lake.scan("labels", task, partition).select("label", "confidence").collect()
    except LlambertError as error:
        raise _failure(error) from error
    if commit is None or commit.manifest is None:
        return None
    shares = labels.group_by("label").agg(rows=pl.len(), confidence=pl.col("confidence").mean())
    return pages.render(
        "partition.html",
        task=task,
        partition=day,
        table=lake.table_uri("labels"),
        rows=labels.height,
        labels=shares.sort("rows", descending=True).to_dicts(),
        commit=commit,
    )


def _found(page: str | None, message: str) -> str:
    if page is None:
        raise HTTPException(404, message)
    return page


def _failure(error: LlambertError) -> HTTPException:
    return HTTPException(503 if isinstance(error, TransientError) else 404, str(error))


class LlambertPlugin(AirflowPlugin):
    name = "llambert"
    fastapi_apps = [{"app": app, "url_prefix": PAGES, "name": "llambert pages"}]  # noqa: RUF012 - Airflow reads a list
