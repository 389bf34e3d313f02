"""The pages that people open from a task in Airflow: each is one file that loads nothing else."""

import jinja2

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader(__name__, "."),
    autoescape=True,  # whatever a document, a label or a model said is text
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
)


def render(template: str, **values: object) -> str:
    """Return the page; raise jinja2.UndefinedError where a value is missing."""
    return _TEMPLATES.get_template(template).render(values)
