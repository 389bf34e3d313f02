"""The Dags that run when somebody fills in their form: label a range of days again, study a task."""

from typing import get_args

from airflow.sdk import DAG, Context, Param
from airflow.sdk.exceptions import AirflowSkipException

from llambert_etl.config import LabellingTask, StudyKind
from llambert_etl.facts import Relabelled
from llambert_etl.orchestration import commands
from llambert_etl.orchestration.assets import assets_of
from llambert_etl.orchestration.labelling_dag import labelling_dag, optional
from llambert_etl.orchestration.steps import Steps
from llambert_etl.settings import Settings


def build_relabel(labelling: LabellingTask, settings: Settings) -> DAG:
    """Label a range of days again: each day with documents gets a run, which does what is to be done."""
    assets, steps = assets_of(labelling.name), Steps(labelling, settings, "")

    def announce(context: Context, manifest: object) -> None:
        days = Relabelled.of(manifest).bring_back
        if not days:
            raise AirflowSkipException("no day of the range has documents")
        context["outlet_events"][assets.champion].add_partitions([*days])

    with labelling_dag(
        labelling,
        "relabel",
        schedule=None,
        params={
            "first": Param(type="string", format="date", title="From", description="The first day of the range."),
            "last": Param(
                type="string",
                format="date",
                title="To",
                description="The last day of the range. Labels that are the champion's already stay as they are.",
            ),
        },
    ) as dag:
        steps.light(
            "relabel",
            commands.step("relabel", labelling, "--upto", "{{ params.last }}", partition="{{ params.first }}"),
            outlets=[assets.champion],
            post_execute=announce,
        )
    return dag


def build_study(labelling: LabellingTask, settings: Settings) -> DAG:
    """Compare ways to train or to ask, when somebody wants to know; nothing that is labelled changes by it."""
    steps = Steps(labelling, settings, "")

    with labelling_dag(
        labelling,
        "study",
        schedule=None,
        params={
            "kind": Param(
                "strategies",
                type="string",
                title="Kind",
                enum=list(get_args(StudyKind)),
                description="What to vary. include/studies says how, in a file named after the task.",
            ),
            "as_of": Param(
                type="string",
                format="date",
                title="As of",
                description="The last day of documents, annotations and gold to use.",
            ),
            "seeds": optional(
                "string", "Seeds", "Other seeds than the plan's, such as 1,2,3.", pattern=r"^\d+(,\d+)*$"
            ),
        },
    ) as dag:
        seeds = commands.option("--seeds", "seeds")
        steps.heavy("study", commands.study(labelling, "{{ params.kind }}", "{{ params.as_of }}", seeds))
    return dag
