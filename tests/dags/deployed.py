"""The Dags of the test's deployment, built in the process that asks."""

from typing import Any

from llambert_etl.config import LabellingTask, find_task
from llambert_etl.orchestration import dags, forms
from llambert_etl.settings import load_settings


def films() -> LabellingTask:
    return find_task(load_settings().include, "films")


def build(kind: str) -> Any:
    """Return a Dag of the task `films`, or `maintain`."""
    settings = load_settings()
    if kind == "maintain":
        return dags.build_maintain(settings)
    module = forms if kind in ("relabel", "study") else dags
    return getattr(module, f"build_{kind}")(films(), settings)
