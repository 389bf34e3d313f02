"""Promotion by approval: what a person is shown before the champion moves, and what their answer does."""

import datetime
from typing import Any, cast

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import BaseOperator, Context, Param, TriggerRule
from airflow.sdk.exceptions import AirflowSkipException

from llambert_etl.config import LabellingTask, fingerprint
from llambert_etl.errors import ConfigError
from llambert_etl.facts import Changes, Compared, Comparison, Decided, Gain, Side, Trained
from llambert_etl.orchestration import commands
from llambert_etl.orchestration.alerts import on_question
from llambert_etl.orchestration.local import LocalStep
from llambert_etl.orchestration.steps import REGISTRY_POOL, Steps
from llambert_etl.settings import Settings

# Nobody's answer within a week is a Reject.
_WAIT = datetime.timedelta(days=7)
_ANSWER = "answer"
_ASKED = "asked"
_NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "ece": "calibration error",
    "ece_mass": "the same in bins of like many rows",
    "log_loss": "log loss",
}


class Approval(ApprovalOperator):
    """Leaves the answer for the steps that follow: Airflow's own operator leaves none where it is a refusal."""

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        answer = {"by": event["responded_by_user"], "params": event["params_input"]}
        context["ti"].xcom_push(key=_ANSWER, value=answer)
        return super().execute_complete(context, event)


def approval(
    labelling: LabellingTask, settings: Settings, steps: Steps
) -> tuple[list[BaseOperator], list[BaseOperator]]:
    """Return what stands before `promote` where the task asks for approval, and what runs instead where it is refused.

    `compare` says what the gate would decide and what would change. Where the gate would keep the champion nobody is
    asked. `keep` enters that, or the refusal, as the decision; a promotion needs an approval in any case.
    """
    if not labelling.retrain.approval:
        return [], []

    def ask(context: Context) -> None:
        told = context["ti"].xcom_pull(task_ids="compare")
        decided = Decided.of(told)
        if decided.decision != "promoted":
            raise AirflowSkipException(f"nothing to approve: {decided.reason}")
        found = Compared.of(told).comparison
        _refuse_another_question(context, told["facts"], f"{labelling.name}__retrain")
        # Set here and not by a template: what a label is called is not rendered.
        cast(Approval, context["task"]).body = question(labelling, settings, decided.reason, found)

    def with_reason(context: Context) -> None:
        reason = _why_kept(context)
        if reason is None:
            raise AirflowSkipException("there is nothing to enter")
        cast(LocalStep, context["task"]).arguments += [_candidate(context), f"--keep={reason}"]

    return [
        steps.heavy("compare", commands.step("promote", labelling, "--dry-run"), pre_execute=of_this_run),
        Approval(
            task_id="approve",
            subject=f"May the candidate for {labelling.name} be promoted, as of {commands.PARTITION_KEY}?",
            defaults=ApprovalOperator.REJECT,
            params={
                "reason": Param("", type="string", title="Reason", maxLength=500, description="For the audit log.")
            },
            notifiers=on_question(labelling),
            response_timeout=_WAIT,
            execution_timeout=None,
            pre_execute=ask,
        ),
    ], [
        steps.light(
            "keep",
            commands.step("promote", labelling),
            pool=REGISTRY_POOL,
            trigger_rule=TriggerRule.ALL_SKIPPED,
            pre_execute=with_reason,
        )
    ]


def of_this_run(context: Context) -> None:
    """Name the candidate: another training of the same day may end before this run has come to its decision."""
    cast(LocalStep, context["task"]).arguments += [_candidate(context)]


def with_approval(context: Context) -> None:
    """Give `promote` its candidate and the name of who approved, and why, for the audit log."""
    of_this_run(context)
    answer = context["ti"].xcom_pull(task_ids="approve", key=_ANSWER)
    if answer:
        cast(LocalStep, context["task"]).arguments += [f"--approved={_said(answer)}"]


def question(labelling: LabellingTask, settings: Settings, reason: str, found: Comparison) -> str:
    """Return Markdown: candidate and champion side by side, and the labels that would change."""
    model = f"{settings.mlflow_uri.rstrip('/')}/#/models/llambert.{labelling.name}"
    sides = [found.candidate, found.champion]
    rows = [
        ["", "candidate", "champion", "difference (95 % interval)"],
        ["---"] * 4,
        [
            "version",
            *(f"[{side.version}]({model}/versions/{side.version})" if side else "none" for side in sides),
        ],
        ["trained as of", *(side.trained_upto if side else "" for side in sides)],
        ["strategy", *(side.strategy or "" if side else "" for side in sides)],
        *(_measured(name, shown, sides, found.gain) for name, shown in _NAMES.items()),
        *(
            [f"F1 of {label}", *(f"{side.f1[label]:.4f}" if side else "" for side in sides)]
            for label in labelling.labels
        ),
    ]
    table = "\n".join(f"| {' | '.join(row + [''] * (4 - len(row)))} |" for row in rows)
    paired = f"; McNemar's p {found.gain.p}" if found.gain else ""
    return f"""**The gate would promote it:** {reason}.

{table}

Measured on {found.gold:,} gold test rows{paired}.

{_changes(found.changes)}
"""


def _candidate(context: Context) -> str:
    return f"--candidate={Trained.of(context['ti'].xcom_pull(task_ids='train')).model_version}"


def _refuse_another_question(context: Context, facts: dict[str, Any], dag: str) -> None:
    """Raise ConfigError where this run has asked something else before, which a cleared step does.

    Airflow goes on showing the first question, and the answer to it would be taken for one about this candidate.
    """
    store, asked = context["task_state_store"], fingerprint(facts)
    if store.get(_ASKED) not in (None, asked):
        raise ConfigError(f"this run has asked about other numbers, and Airflow still shows those: trigger {dag} again")
    store.set(_ASKED, asked)


def _measured(name: str, shown: str, sides: list[Side | None], gain: Gain | None) -> list[str]:
    values = [f"{getattr(side, name):.4f}" if side else "" for side in sides]
    if not hasattr(gain, name):
        return [shown, *values]
    value, low, high = getattr(gain, name)
    return [shown, *values, f"{value:+.4f} ({low:+.4f} to {high:+.4f})"]


def _changes(changes: Changes) -> str:
    labels, sample, changed = changes.labels, changes.sample, changes.changed
    if not sample:
        return "**Labels that would change:** none, for nothing is labelled yet."
    estimate = round(labels * changed / sample)
    said = f"**Labels that would change:** about {estimate:,} of {labels:,} ({changed / sample:.1%}"
    if sample < labels:
        said += f"; {changes.low:,} to {changes.high:,} with 95 % confidence, from a sample of {sample:,}"
    pairs = "".join(f"| {before} | {after} | {count:,} |\n" for before, after, count in changes.pairs)
    return f"{said}).\n\n" + (f"| from | to | of the {sample:,} |\n| --- | --- | --- |\n{pairs}" if pairs else "")


def _why_kept(context: Context) -> str | None:
    """Return why this run does not promote: somebody said so, nobody answered, or the gate would not."""
    answer = context["ti"].xcom_pull(task_ids="approve", key=_ANSWER)
    if answer:
        return f"rejected by {_said(answer)}"
    told = context["ti"].xcom_pull(task_ids="compare")  # nothing, where it was skipped: no training was due
    return Decided.of(told).reason if told else None


def _said(answer: dict[str, Any]) -> str:
    who, why = answer["by"], (answer["params"] or {}).get("reason")
    name = who["name"] if who else "nobody, in time"
    return " ".join((f"{name}: {why}" if why else str(name)).split())
