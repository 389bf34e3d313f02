"""Tells a labelling task's channel, a webhook, that one of its steps has failed for good or that a person is asked."""

import html
from collections.abc import Callable
from typing import Any, cast

import httpx
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import BaseNotifier, BaseOperator, Context
from airflow.sdk.log import mask_secret

from llambert_etl.config import LabellingTask
from llambert_etl.errors import ConfigError, DataError, LlambertError, TransientError
from llambert_etl.orchestration.links import DataDocsLink, Step
from llambert_etl.settings import load_settings

_TIMEOUT_SECONDS = 10.0
_MAX_REASON = 1_000

Text = Callable[[Context], str]


class Alert(BaseNotifier):
    """Post a line to the channel of that name. What goes wrong on the way is logged: no step fails for its alert.

    The address is a secret, so it is read where it is used, and is part of no Dag.
    """

    def __init__(self, channel: str, text: Text) -> None:
        super().__init__()
        self.channel = channel
        self.text = text

    def notify(self, context: Context) -> None:
        try:
            address = load_settings().alerts.get(self.channel)
            if address is None:
                raise ConfigError("is not among LLAMBERT_ALERTS")
            mask_secret(address.get_secret_value())
            reply = httpx.post(
                address.get_secret_value(), json={"text": self.text(context)}, timeout=_TIMEOUT_SECONDS, trust_env=False
            )
            if not reply.is_success:  # a redirect, which is not followed, brings the alert nowhere
                raise TransientError(f"answered {reply.status_code}")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            self.log.warning("No alert: channel %r cannot be reached: %s", self.channel, type(error).__name__)
        except LlambertError as error:
            self.log.warning("No alert: channel %r %s", self.channel, error)


def on_failure(labelling: LabellingTask) -> dict[str, Any]:
    """Return the arguments of each of a labelling task's steps that tell its channel when no try is left."""
    return {"on_failure_callback": Alert(labelling.alerts, failed)} if labelling.alerts else {}


def on_question(labelling: LabellingTask) -> list[Alert]:
    return [Alert(labelling.alerts, asked)] if labelling.alerts else []


def failed(context: Context) -> str:
    """Say what failed, of which partition, and why: the step's own last words."""
    error, instance = context.get("exception"), context["ti"]
    key = context["dag_run"].partition_key
    where = f"{instance.dag_id}{f' {key}' if key else ''}: step {instance.task_id}"
    reason = str(error)[:_MAX_REASON] if error else "killed, without a word"
    what = "was refused" if isinstance(error, DataError) else "failed"
    report = _report(context["task"], instance) if isinstance(error, DataError) else ""
    return _escaped([f"{where} {what}: {reason}", f"run {instance.run_id}", instance.log_url, report])


def asked(context: Context) -> str:
    """Say that somebody is to decide, and where."""
    page = context["ti"].log_url.partition("?")[0]
    return _escaped([cast(HITLOperator, context["task"]).subject, f"{page}/required_actions"])


def _report(operator: object, instance: Any) -> str:
    """Return where the gate's report is; nothing where the task is no step."""
    return DataDocsLink().get_link(cast(BaseOperator, operator), ti_key=instance) if isinstance(operator, Step) else ""


def _escaped(lines: list[str]) -> str:
    """Return one text in which nothing means something to a chat: neither a mention nor a link with another name."""
    return html.escape("\n".join(line for line in lines if line), quote=False)
