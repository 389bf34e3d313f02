"""Waits in the triggerer for a pod, and before that until Airflow knows that it does."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.triggers.base import TriggerEvent

# Longer than a busy scheduler takes for a turn.
_HEARD_SECONDS = 15.0


class PodTrigger(KubernetesPodTrigger):
    """Let no task go on before the scheduler has heard of the end of the process that has deferred it.

    The scheduler would take that end for the one of the process that goes on: the try is lost, or the task's last one.
    """

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.sleep(_HEARD_SECONDS)
        async for event in super().run():
            yield event

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.{PodTrigger.__name__}", super().serialize()[1]
