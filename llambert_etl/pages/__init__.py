"""The pages that people open from a task in Airflow: each is one file that loads nothing else."""

import jinja2

from llambert_etl.config import fingerprint

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader(__name__, "."),
    autoescape=True,  # whatever a document, a label or a model said is text
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
)


def report_name(kind: str, run: str) -> str:
    """Return the name of the Data Docs that `check KIND --run RUN` writes."""
    return f"{kind}-{fingerprint(run)}.html"


def render(template: str, **values: object) -> str:
    """Return the page; raise jinja2.UndefinedError where a value is missing."""
    return _TEMPLATES.get_template(template).render(values)
