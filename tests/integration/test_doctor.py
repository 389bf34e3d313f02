"""What the doctor says of the servers, connections and channels that task files name."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from laptop.seaweed import SeaweedFS
from llambert_etl.settings import Settings
from llambert_etl.steps.doctor import Finding, doctor
from tests.fakes.llm import HTML, KEY, FakeLlm, error
from tests.fakes.proxy import Proxy
from tests.fakes.server import Answer
from tests.given.exporting import WAREHOUSE
from tests.given.served import served_fields, server
from tests.given.tasks import task_fields
from tests.processes.postgres import Database

WEBHOOK = "https://hooks.example/services/only-who-knows-this-may-post"
ELSEWHERE = {"connection": "crm", "table": "t", "day": "d", "id": "id", "text": "text"}


def write_tasks(include: Path, *fields: dict[str, Any]) -> None:
    (include / "tasks").mkdir(exist_ok=True)
    for number, task in enumerate(fields):
        named = {**task, "name": f"task{number}"}
        (include / "tasks" / f"task{number}.yaml").write_text(yaml.safe_dump(named, sort_keys=False))


def seen(include: Path, **settings: Any) -> dict[str, Finding]:
    """Return what is found of that which task files name."""
    given = Settings(lake=str(include / "lake"), state=include / "state", include=include, **settings)
    return {found.what: found for found in doctor(given) if found.what.startswith(("server", "connection", "channel"))}


def test_what_tasks_name_is_looked_at_once_and_nothing_else_is(
    tmp_path: Path, database: Database, llm: FakeLlm
) -> None:
    exporting = {**task_fields(), "export": ["parquet", WAREHOUSE], "alerts": "nlp"}
    write_tasks(tmp_path, served_fields(), served_fields(), exporting)
    servers = {"fake": server(llm.url), "unused": server("http://127.0.0.1:1/v1")}
    connections = {"warehouse": SecretStr(database.uri), "unused": SecretStr("postgresql://127.0.0.1:1/no")}
    found = seen(tmp_path, servers=servers, connections=connections, alerts={"nlp": SecretStr(WEBHOOK)})
    assert not llm.asked
    assert {what: (each.ok, each.seen) for what, each in found.items()} == {
        "server fake": (True, f"lists 1 models at {llm.url}"),
        "connection warehouse": (True, "opened and closed"),
        "channel nlp": (True, "known"),
    }


def test_what_the_deployment_does_not_know_is_told_with_the_variable_to_set(tmp_path: Path) -> None:
    write_tasks(tmp_path, {**served_fields(), "source": ELSEWHERE, "export": WAREHOUSE, "alerts": "nlp"})
    found = seen(tmp_path, alerts={"ops": SecretStr(WEBHOOK)})
    assert not any(each.ok for each in found.values())
    told = {what: f"{each.seen}; {each.mend}" for what, each in found.items()}
    for what, variable in (
        ("server fake", "LLAMBERT_SERVERS__FAKE__URL"),
        ("connection crm", "LLAMBERT_CONNECTIONS__CRM"),
        ("connection warehouse", "LLAMBERT_CONNECTIONS__WAREHOUSE"),
        ("channel nlp", "'nlp' and its webhook to LLAMBERT_ALERTS"),
    ):
        assert variable in told[what]
    assert WEBHOOK not in str(found)


@pytest.mark.parametrize(
    ("key", "models", "said"),
    [
        ("sk-other", None, "refuses the key (401, invalid_api_key); mend LLAMBERT_SERVERS__FAKE__API_KEY"),
        (KEY, error(403), "refuses the key (403, http_403)"),
        (KEY, error(404), "no such address"),
        (KEY, error(503), "answers 503 to a question about its models; is LLAMBERT_SERVERS__FAKE__URL right?"),
        (KEY, HTML, "answers with no list of models; mend LLAMBERT_SERVERS__FAKE__URL"),
    ],
    ids=["another key", "403", "404", "503", "html"],
)
def test_a_server_that_does_not_serve_us_is_told_with_what_to_mend(
    tmp_path: Path, key: str, models: Answer | None, said: str, llm: FakeLlm
) -> None:
    write_tasks(tmp_path, served_fields())
    llm.models = models or llm.models
    found = seen(tmp_path, servers={"fake": server(llm.url, api_key=key)})["server fake"]
    assert (found.ok, said in found.seen) == (False, True), found.seen
    assert key not in str(found)


def test_what_cannot_be_reached_is_told_with_its_address_variable_and_no_secret(tmp_path: Path) -> None:
    write_tasks(tmp_path, {**served_fields(), "export": WAREHOUSE})
    uri = SecretStr("postgresql://llambert:hunter2@127.0.0.1:1/marts")
    found = seen(tmp_path, servers={"fake": server("http://127.0.0.1:1/v1")}, connections={"warehouse": uri})
    assert "ConnectError; is it up, and LLAMBERT_SERVERS__FAKE__URL right?" in found["server fake"].seen
    assert "Connection refused" in found["connection warehouse"].seen
    assert "LLAMBERT_CONNECTIONS__WAREHOUSE right?" in found["connection warehouse"].seen
    assert not [secret for secret in (KEY, "hunter2") if secret in str(found)]


def test_a_store_that_cannot_be_reached_is_a_finding(tmp_path: Path) -> None:
    gone = Settings(
        lake="s3://nowhere/lake",
        state=tmp_path,
        include=tmp_path,
        s3_endpoint="http://127.0.0.1:1",
        s3_access_key_id=SecretStr("key"),
        s3_secret_access_key=SecretStr("hunter2"),
    )
    found = {each.what: each for each in doctor(gone)}
    for what in ("lake", "one writer wins"):
        assert (found[what].ok, "127.0.0.1:1" in found[what].seen) == (False, True), found[what]


def test_a_store_that_refuses_the_key_is_not_called_one_that_cannot_hold_a_lake(settings: Settings) -> None:
    refused = settings.model_copy(update={"s3_secret_access_key": SecretStr("hunter2")})
    found = {each.what: each for each in doctor(refused)}
    for what in ("lake", "one writer wins"):
        assert (found[what].ok, "LLAMBERT_S3_SECRET_ACCESS_KEY" in found[what].seen) == (False, True), found[what]
    assert "hunter2" not in str(found)


@pytest.mark.parametrize("header", ["If-None-Match", "If-Match"])
def test_a_store_that_lets_every_racing_writer_through_cannot_hold_a_lake(
    settings: Settings, s3: SeaweedFS, proxy: Proxy, header: str
) -> None:
    keys = (s3.access_key, s3.secret_key)
    proxy.rule("strip", "PUT", "/_staging/doctor/", times=None, header=header, keys=keys)
    found = {each.what: each for each in doctor(settings.model_copy(update={"s3_endpoint": proxy.endpoint()}))}
    several = (
        r"[2-8] of 8 racing writers let through to create" if header == "If-None-Match" else r", [2-8] to change it"
    )
    assert not found["one writer wins"].ok
    assert re.search(several, found["one writer wins"].seen), found["one writer wins"].seen
    assert "this store cannot hold a lake: use one with conditional put" in found["one writer wins"].mend


def test_a_store_with_conditional_put_passes(settings: Settings) -> None:
    found = {each.what: each for each in doctor(settings)}
    assert found["one writer wins"].ok, found["one writer wins"]
