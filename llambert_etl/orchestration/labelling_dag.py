"""What all Dags of a labelling task have in common."""

from typing import Any

from airflow.sdk import DAG, Param

from llambert_etl.config import LabellingTask
from llambert_etl.orchestration.alerts import on_failure
from llambert_etl.orchestration.steps import default_arguments

_ASKED = {
    "relabel": "The form asks for a range of days; each that has documents gets a label run.",
    "study": "The form asks what to vary. Nothing that is labelled changes by a study.",
}


def labelling_dag(labelling: LabellingTask, kind: str, **options: Any) -> DAG:
    """Return a Dag of a labelling task, with what all of them have."""
    return DAG(
        dag_id=f"{labelling.name}__{kind}",
        description=labelling.description,
        catchup=False,
        default_args={**default_arguments(labelling.owner), **on_failure(labelling)},
        tags=["llambert", kind, labelling.name],
        doc_md=_documentation(labelling, kind),
        **options,
    )


def _documentation(labelling: LabellingTask, kind: str) -> str:
    labels = "\n".join(f"- `{label}`: {meaning}" for label, meaning in labelling.labels.items())
    wanted = _ASKED.get(
        kind,
        "A run works on one partition, a UTC day: give its key (such as `2026-11-10`) under *Advanced Options* when "
        "you trigger one by hand.",
    )
    return f"""**{labelling.description}** ({kind}; owner: {labelling.owner})

{labels}

Annotator `{labelling.annotator.model}`, encoder `{labelling.encoder.model}`. {wanted}
"""


def optional(kind: str, title: str, description: str, **rules: Any) -> Param:
    """Return a field of a form that may be left empty."""
    return Param(None, type=["null", kind], title=title, description=description, **rules)
