"""The Dags of a labelling task. Each is the flow of one kind of run; what a step does is the step's own affair."""

import datetime
from typing import Any, cast, get_args

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, Context, CronPartitionTimetable, CronTriggerTimetable, Param, TriggerRule, chain, task
from airflow.sdk.exceptions import AirflowSkipException

from llambert_etl.config import LabellingTask, Strategy, StudyKind
from llambert_etl.orchestration import commands
from llambert_etl.orchestration.assets import assets_of, on_partition_of
from llambert_etl.orchestration.commands import partition_of
from llambert_etl.orchestration.local import LocalStep
from llambert_etl.orchestration.steps import REGISTRY_POOL, Steps, days_in, default_arguments, facts_of
from llambert_etl.partition import parse_partition
from llambert_etl.settings import Settings

_APPROVAL_WAIT = datetime.timedelta(days=7)


def build_ingest(labelling: LabellingTask, settings: Settings) -> DAG:
    """Each night, the drops of the day that has ended become documents; then ask whether training is due."""
    assets, steps = assets_of(labelling.name), Steps(labelling, settings, "documents")

    def announce(context: Context, _: object) -> None:
        context["outlet_events"][assets.documents].add_partitions(
            partition_of(cast(LocalStep, context["task"]).arguments)
        )

    def announce_if_due(context: Context, manifest: object) -> None:
        skip_unless_due(context, manifest)
        context["outlet_events"][assets.training_due].extra["forced"] = context["params"]["force_retrain"]

    with _dag(
        labelling,
        "ingest",
        schedule=CronPartitionTimetable("0 0 * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d"),
        params={"force_retrain": Param(False, type="boolean", description="Retrain, whether it is due or not.")},
    ) as dag:

        @task
        def days(manifest: Any, **context: Any) -> list[list[str]]:
            """Return the command that checks each day that was ingested; a late drop may have replaced past ones."""
            own, run = parse_partition(str(context["partition_key"])), str(context["run_id"])
            return commands.document_checks(labelling, [own, *days_in(facts_of(manifest), "late_partitions")], run)

        ingest = steps.light("ingest", commands.step("ingest", labelling))
        chain(
            steps.mapped_light(
                "check_documents", days(ingest.output), outlets=[assets.documents], post_execute=announce
            ),
            steps.light(
                "training_due",
                commands.step("training-due", labelling, commands.switch("--force", "force_retrain")),
                outlets=[assets.training_due],
                post_execute=announce_if_due,
            ),
        )
    return dag


def build_retrain(labelling: LabellingTask, settings: Settings) -> DAG:
    """Annotate the sample as of the partition, train a candidate on it, and promote it where it is better."""
    assets, steps = assets_of(labelling.name), Steps(labelling, settings, "annotations")

    with _dag(
        labelling,
        "retrain",
        schedule=on_partition_of(assets.training_due),
        max_active_runs=1,
        params={
            "sample": _optional(
                "integer", "How many documents to annotate in all, instead of the task's own number.", minimum=1
            ),
            "strategy": _optional(
                "string", "What to train on instead of the task's own choice.", enum=[None, *get_args(Strategy)]
            ),
        },
    ) as dag:

        def skip_for_gold_alone(context: Context) -> None:
            if (context["params"]["strategy"] or labelling.encoder.strategy) == "gold":
                raise AirflowSkipException("training on gold alone needs no answer of the LLM")

        @task(outlets=[assets.champion])
        def announce_champion(manifest: Any, **context: Any) -> None:
            """Bring back every live partition, to be labelled by the new champion."""
            facts = facts_of(manifest)
            if facts.get("decision") != "promoted":
                raise AirflowSkipException(f"the champion stays: {facts.get('reason')}")
            days = days_in(facts, "partitions") or [context["partition_key"]]
            context["outlet_events"][assets.champion].add_partitions(days)

        # Asked again: every day of a backfill was due when it was ingested, and the first retrain may answer for all.
        still_due = steps.light(
            "still_due",
            commands.step("training-due", labelling, commands.FORCED),
            post_execute=skip_unless_due,
        )
        asked = [commands.option("--strategy", "strategy"), commands.option("--sample", "sample")]
        ready = [still_due, *_gold_import(labelling, settings, steps)]
        train = steps.heavy(
            "train",
            commands.step("train", labelling, *asked),
            trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
        )
        promote = steps.light("promote", commands.step("promote", labelling), pool=REGISTRY_POOL)
        chain(
            *ready,
            steps.heavy("annotate", commands.step("annotate", labelling, *asked), pre_execute=skip_for_gold_alone),
            steps.light("check_annotations", commands.step("check annotations", labelling, *asked)),
            train,
            *_approval(labelling),
            promote,
            announce_champion(promote.output),
        )
        chain(ready[-1], train)
    return dag


def skip_unless_due(context: Context, manifest: object) -> None:
    """Skip this task, and so all that follow it, where `training-due` says that there is nothing to train for."""
    facts = facts_of(manifest)
    if not facts.get("due"):
        raise AirflowSkipException(f"training is not due: {facts.get('reason')}")


def build_label(labelling: LabellingTask, settings: Settings) -> DAG:
    """Label one partition with the champion, in shards; nothing of it is visible before it is published."""
    assets, steps = assets_of(labelling.name), Steps(labelling, settings, "labels")

    with _dag(
        labelling,
        "label",
        schedule=on_partition_of(assets.documents | assets.champion),
        params={"model_version": _optional("integer", "Label with this version, not with the champion.", minimum=1)},
    ) as dag:

        @task
        def shards(manifest: Any, **context: Any) -> list[list[str]]:
            """Return the command of each shard; skip where there is nothing to label, or nothing to label with."""
            facts = facts_of(manifest)
            if facts.get("skip") or facts.get("fresh"):
                raise AirflowSkipException(str(facts.get("skip") or "the labels of this partition are up to date"))
            partition = parse_partition(str(context["partition_key"]))
            return commands.label_shards(labelling, partition, str(context["run_id"]), int(str(facts["shards"])))

        plan = steps.light(
            "plan", commands.step("plan", labelling, commands.option("--model-version", "model_version"))
        )
        chain(
            steps.mapped("label_shard", shards(plan.output)),
            steps.light("check_labels", commands.step("check labels", labelling)),
            steps.light("publish", commands.step("publish", labelling), outlets=[assets.labels]),
            *_export(labelling, steps),
        )
    return dag


def build_study(labelling: LabellingTask, settings: Settings) -> DAG:
    """Compare ways to train or to ask, when somebody wants to know; nothing that is labelled changes by it."""
    steps = Steps(labelling, settings, "")

    with _dag(
        labelling,
        "study",
        schedule=None,
        params={
            "kind": Param(
                "strategies",
                type="string",
                enum=list(get_args(StudyKind)),
                description="What to vary. include/studies says how, in a file named after the task.",
            ),
            "as_of": Param(
                type="string", format="date", description="The last day of documents, annotations and gold to use."
            ),
            "seeds": _optional("string", "Other seeds than the plan's, such as 1,2,3.", pattern=r"^\d+(,\d+)*$"),
        },
    ) as dag:
        seeds = commands.option("--seeds", "seeds")
        steps.heavy("study", commands.study(labelling, "{{ params.kind }}", "{{ params.as_of }}", seeds))
    return dag


def build_maintain(settings: Settings) -> DAG:
    """Each week, compact the tables and remove files that no reader needs any more."""
    with DAG(
        dag_id="maintain",
        schedule=CronTriggerTimetable("0 3 * * 0", timezone="UTC"),
        catchup=False,
        max_active_runs=1,
        default_args=default_arguments("llambert"),
        tags=["llambert", "maintain"],
        doc_md=build_maintain.__doc__,
    ) as dag:
        LocalStep(task_id="maintain", arguments=["maintain"], state=str(settings.state))
    return dag


def _dag(labelling: LabellingTask, kind: str, **options: Any) -> DAG:
    return DAG(
        dag_id=f"{labelling.name}__{kind}",
        description=labelling.description,
        catchup=False,
        default_args=default_arguments(labelling.owner),
        tags=["llambert", kind, labelling.name],
        doc_md=_documentation(labelling, kind),
        **options,
    )


def _documentation(labelling: LabellingTask, kind: str) -> str:
    labels = "\n".join(f"- `{label}`: {meaning}" for label, meaning in labelling.labels.items())
    return f"""**{labelling.description}** ({kind}; owner: {labelling.owner})

{labels}

Annotator `{labelling.annotator.model}`, encoder `{labelling.encoder.model}`. A run works on one partition, a UTC day:
give its key (such as `2026-11-10`) under *Advanced Options* when you trigger one by hand.
"""


def _optional(kind: str, description: str, **rules: Any) -> Param:
    return Param(None, type=["null", kind], description=description, **rules)


def _gold_import(labelling: LabellingTask, settings: Settings, steps: Steps) -> list[LocalStep]:
    if labelling.gold is None:
        return []
    return [steps.light("gold_import", commands.gold_import(str(settings.include / labelling.gold), labelling))]


def _export(labelling: LabellingTask, steps: Steps) -> list[LocalStep]:
    if not labelling.export:
        return []
    # Also where nothing new was published: an earlier run may have done that and failed to export it.
    rule = TriggerRule.NONE_FAILED
    return [steps.light("export", commands.step("export", labelling), trigger_rule=rule)]


def _approval(labelling: LabellingTask) -> list[ApprovalOperator]:
    if not labelling.retrain.approval:
        return []
    return [
        ApprovalOperator(
            task_id="approve",
            subject=f"May the candidate for {labelling.name} be promoted, as of {commands.PARTITION_KEY}?",
            body="{{ ti.xcom_pull(task_ids='train') | tojson(indent=2) }}",
            defaults=ApprovalOperator.REJECT,
            response_timeout=_APPROVAL_WAIT,
            execution_timeout=None,
        )
    ]
