"""The Dags of a labelling task. Each is the flow of one kind of run; what a step does is the step's own affair."""

from typing import Any, cast, get_args

from airflow.sdk import DAG, Context, CronPartitionTimetable, CronTriggerTimetable, Param, TriggerRule, chain, task
from airflow.sdk.exceptions import AirflowSkipException

from llambert_etl.config import LabellingTask, Strategy
from llambert_etl.facts import Decided, Due, Late, Planned, Skipped
from llambert_etl.orchestration import commands
from llambert_etl.orchestration.approval import approval, with_approval
from llambert_etl.orchestration.assets import assets_of, on_partition_of
from llambert_etl.orchestration.commands import partition_of
from llambert_etl.orchestration.labelling_dag import labelling_dag, optional
from llambert_etl.orchestration.local import LocalStep
from llambert_etl.orchestration.steps import REGISTRY_POOL, Steps, default_arguments
from llambert_etl.partition import parse_partition
from llambert_etl.settings import Settings


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

    with labelling_dag(
        labelling,
        "ingest",
        schedule=CronPartitionTimetable("0 0 * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d"),
        params={
            "force_retrain": Param(
                False,
                type="boolean",
                title="Retrain",
                description="Retrain when the day is ingested, whether that is due or not.",
            )
        },
    ) as dag:

        @task
        def days(manifest: Any, **context: Any) -> list[list[str]]:
            """Return the command that checks each day that was ingested; a late drop may have replaced past ones."""
            own, run = parse_partition(str(context["partition_key"])), str(context["run_id"])
            return commands.document_checks(labelling, [own, *Late.of(manifest).late_partitions], run)

        ingest = steps.light("ingest", commands.step("ingest", labelling, commands.MISSED))
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

    with labelling_dag(
        labelling,
        "retrain",
        schedule=on_partition_of(assets.training_due),
        max_active_runs=1,
        params={
            "sample": optional(
                "integer",
                "Sample",
                "How many documents to annotate in all, instead of the task's own number.",
                minimum=1,
            ),
            "strategy": optional(
                "string",
                "Strategy",
                "What to train on instead of the task's own choice.",
                enum=[None, *get_args(Strategy)],
            ),
            "labels": optional(
                "string",
                "Labels",
                "Learn from the LLM's probabilities (soft) or its labels (hard), instead of the task's own choice.",
                enum=[None, "soft", "hard"],
            ),
        },
    ) as dag:

        def skip_for_gold_alone(context: Context) -> None:
            if (context["params"]["strategy"] or labelling.encoder.strategy) == "gold":
                raise AirflowSkipException("training on gold alone needs no answer of the LLM")

        @task(outlets=[assets.champion], trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
        def announce_champion(**context: Any) -> None:
            """Bring back every live partition, where another champion is to label it."""
            for name in deciding:
                told = context["ti"].xcom_pull(task_ids=name)  # nothing, where the other of the two was skipped
                if told and (days := Decided.of(told).bring_back):
                    context["outlet_events"][assets.champion].add_partitions([*days])
                    return
            raise AirflowSkipException("the champion stays")

        # Asked again: every day of a backfill was due when it was ingested, and the first retrain may answer for all.
        still_due = steps.light(
            "still_due",
            commands.step("training-due", labelling, commands.FORCED),
            post_execute=skip_unless_due,
        )
        asked = [commands.option("--strategy", "strategy"), commands.option("--sample", "sample")]
        annotate = steps.heavy if labelling.annotator.loads_model else steps.long
        ready = [still_due, *_gold_import(labelling, settings, steps)]
        train = steps.heavy(
            "train",
            commands.step("train", labelling, *asked, commands.LABELS),
            trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
        )
        approved, instead = approval(labelling, settings, steps)
        decision = commands.step("promote", labelling)
        promote = steps.light("promote", decision, pool=REGISTRY_POOL, pre_execute=with_approval)
        announce = announce_champion()
        chain(
            *ready,
            annotate("annotate", commands.step("annotate", labelling, *asked), pre_execute=skip_for_gold_alone),
            steps.light("check_annotations", commands.step("check annotations", labelling, *asked)),
            train,
            *approved,
            promote,
            announce,
        )
        chain(ready[-1], train)
        chain(promote, *instead, announce)
        deciding = [promote.task_id, *(step.task_id for step in instead)]
    return dag


def skip_unless_due(context: Context, manifest: object) -> None:
    """Skip this task, and so all that follow it, where `training-due` says that there is nothing to train for."""
    found = Due.of(manifest)
    if not found.due:
        raise AirflowSkipException(f"training is not due: {found.reason}")


def build_label(labelling: LabellingTask, settings: Settings) -> DAG:
    """Label one partition with the champion, in shards; nothing of it is visible before it is published."""
    assets, steps = assets_of(labelling.name), Steps(labelling, settings, "labels")

    def announce_move(context: Context, manifest: object) -> None:
        """Bring back the other partitions where the champion was moved by hand."""
        if days := Planned.of(manifest).bring_back:
            context["outlet_events"][assets.champion].add_partitions([*days])
        else:
            # Airflow announces each outlet of a task that succeeds, and this one would start the run again.
            context["task"].outlets = []

    with labelling_dag(
        labelling,
        "label",
        schedule=on_partition_of(assets.documents | assets.champion),
        params={
            "model_version": optional(
                "integer", "Model version", "Label with this version, not with the champion.", minimum=1
            )
        },
    ) as dag:

        @task
        def shards(manifest: Any, **context: Any) -> list[list[str]]:
            """Return the command of each shard; skip where there is nothing to label, or nothing to label with."""
            planned = Planned.of(manifest)
            if planned.skip or planned.fresh:
                raise AirflowSkipException(planned.skip or "the labels of this partition are up to date")
            partition = parse_partition(str(context["partition_key"]))
            return commands.label_shards(labelling, partition, str(context["run_id"]), planned.shards)

        plan = steps.light(
            "plan",
            commands.step("plan", labelling, commands.option("--model-version", "model_version")),
            outlets=[assets.champion],
            post_execute=announce_move,
        )
        chain(
            steps.mapped("label_shard", shards(plan.output)),
            steps.light("check_labels", commands.step("check labels", labelling)),
            steps.light(
                "publish",
                commands.step("publish", labelling),
                outlets=[assets.labels],
                post_execute=skip_where_overtaken,
            ),
            *_export(labelling, steps),
        )
    return dag


def skip_where_overtaken(context: Context, manifest: object) -> None:
    """Skip, and announce no labels, where another run has published newer ones."""
    if reason := Skipped.of(manifest).skip:
        raise AirflowSkipException(reason)


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
        params={
            "retention_days": Param(
                7,
                type="integer",
                minimum=7,
                title="Retention",
                description="For how many days old versions of the tables stay readable.",
            )
        },
    ) as dag:
        LocalStep(
            task_id="maintain",
            arguments=["maintain", commands.option("--retention-days", "retention_days")],
            state=str(settings.state),
        )
    return dag


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
