"""Imported by the fork server alone: builds Airflow's execution API, which every fresh process would build for 5 s."""

import asyncio

import httpx
from airflow.sdk.execution_time.supervisor import in_process_api_server

import tests.dags.runs  # noqa: F401  with all that it imports


async def _asked_once() -> None:
    transport = in_process_api_server().atransport
    async with httpx.AsyncClient(transport=transport, base_url="http://in-process.invalid") as client:
        (await client.get("/health")).raise_for_status()


asyncio.run(_asked_once())
