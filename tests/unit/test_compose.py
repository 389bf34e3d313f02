"""docker/compose.yaml, as Docker Compose itself reads it, against what the programs in it know."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from laptop.host import executable
from laptop.seaweed import SeaweedFS
from laptop.stack import REPOSITORY
from llambert_etl.settings import Settings
from tests.unit.test_documented_commands import fault

DOCKER = REPOSITORY / "docker"
IMAGE = re.compile(r".+:\d[\w.-]+")


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the repository, with secrets made as the file's first lines tell to."""
    folder = tmp_path_factory.mktemp("checkout") / "docker"
    shutil.copytree(DOCKER, folder, ignore=shutil.ignore_patterns("secrets", "models", "settings.env"))
    subprocess.run([folder / "compose" / "secrets.sh"], check=True)
    return folder


@pytest.fixture(scope="module")
def composed(docker: Path) -> dict[str, Any]:
    files = [f"--file={docker / name}" for name in ("compose.yaml", "compose.gpu.yaml")]
    config = [executable("docker-compose"), *files, "config", "--format=json"]
    done = subprocess.run(config, capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr.lower()
    composed: dict[str, Any] = json.loads(done.stdout)
    return composed


@pytest.fixture(scope="module")
def services(composed: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = composed["services"]
    return found


def commands(services: dict[str, Any], program: str) -> list[list[str]]:
    """Return the arguments of each call of a program, also those in shell scripts."""
    found = []
    for service in services.values():
        command = [*(service.get("entrypoint") or []), *(service.get("command") or [])]
        script = command[2].replace("$$", "$").replace("\\\n", " ") if command[:1] == ["sh"] else shlex.join(command)
        for line in re.split(r"\n|;|&&", script):
            name, *arguments = shlex.split(line.strip().removeprefix("exec ")) or [""]
            found += [arguments] if name == program else []
    return found


def test_images_are_named_by_a_version(services: dict[str, Any]) -> None:
    assert [name for name, service in services.items() if not IMAGE.fullmatch(service["image"])] == []


def test_every_service_that_stays_says_whether_it_is_healthy(services: dict[str, Any]) -> None:
    ended = {
        each
        for service in services.values()
        for each, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }
    assert {name for name, service in services.items() if "healthcheck" not in service} == ended == {"lake", "database"}
    assert {name for name, service in services.items() if service["restart"] == "no"} == ended


def test_our_services_run_without_root_and_without_privileges(services: dict[str, Any]) -> None:
    ours = {name: service for name, service in services.items() if "llambert" in service["image"]}
    assert set(services) - set(ours) == {"postgres", "s3"}
    for service in ours.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_only_this_machine_reaches_a_port(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_variables_are_settings_that_there_are(services: dict[str, Any]) -> None:
    known = {f"LLAMBERT_{name.upper()}" for name in Settings.model_fields}
    options = _airflow_options()
    for service in services.values():
        named = set(service.get("environment") or {})
        assert {name for name in named if name.startswith("LLAMBERT_")} <= known
        assert {name.removesuffix("_CMD") for name in named if name.startswith("AIRFLOW__")} <= options


def _airflow_options() -> set[str]:
    import airflow

    told = yaml.safe_load((Path(airflow.__file__).parent / "config_templates" / "config.yml").read_text())
    return {f"AIRFLOW__{part}__{name}".upper() for part, body in told.items() for name in body["options"]} | {
        # The provider of the simple logins has these.
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE",
    }


def test_no_secret_stands_in_the_file_or_in_a_variable(composed: dict[str, Any], docker: Path) -> None:
    values = [(docker / "secrets" / name).read_text() for name in os.listdir(docker / "secrets")]
    said = json.dumps(composed)
    assert [value for value in values if len(value) > 20 and value in said] == []
    secretive = re.compile(r"PASSWORD|SECRET|KEY|TOKEN")
    for service in composed["services"].values():
        named = [name for name in service.get("environment") or {} if secretive.search(name)]
        assert all(name.endswith(("_CMD", "_FILE", "SECRETS_DIR")) for name in named), named


def test_every_secret_and_file_that_is_mounted_is_made(composed: dict[str, Any], docker: Path) -> None:
    files = [Path(each["file"]) for each in composed["secrets"].values()]
    bound = [each for service in composed["services"].values() for each in service.get("volumes", [])]
    files += [Path(each["source"]) for each in bound if each["target"].startswith("/opt/")]
    assert len(files) > len(composed["secrets"])
    assert [path.name for path in files if not path.is_file()] == []
    used = {each["source"] for service in composed["services"].values() for each in service.get("secrets", [])}
    assert used == set(composed["secrets"])
    for service in composed["services"].values():
        there = {each.get("target") or each["source"] for each in service.get("secrets", [])}
        told = json.dumps([service.get("command"), service.get("environment")])
        asked = set(re.findall(r"/run/secrets/([\w.]+)", told)) - {"llambert"}
        assert asked <= {name.removeprefix("/run/secrets/") for name in there}


def test_secrets_are_made_once(docker: Path) -> None:
    before = {path.name: path.read_text() for path in (docker / "secrets").iterdir()}
    subprocess.run([docker / "compose" / "secrets.sh"], check=True)
    assert {path.name: path.read_text() for path in (docker / "secrets").iterdir()} == before
    assert (docker / "secrets").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("name", "ask"), [("weed", "-h"), ("mlflow", "--help")])
def test_servers_know_the_options_that_they_are_started_with(services: dict[str, Any], name: str, ask: str) -> None:
    (arguments,) = commands(services, name)
    helped = [subprocess.run([executable(name), *sub, ask], capture_output=True) for sub in ([], ["server"])]
    known = {word for done in helped for word in re.findall(r"--?[\w.-]+", (done.stdout + done.stderr).decode())}
    asked = {word.partition("=")[0] for word in arguments if word.startswith("-")}
    assert len(asked) > 5
    assert asked <= known


def test_airflow_and_llambert_are_told_what_they_know(services: dict[str, Any]) -> None:
    from airflow.cli.cli_parser import get_parser

    told = commands(services, "airflow")
    assert len(told) == 7
    for arguments in told:
        get_parser().parse_args(arguments)
    assert [fault(shlex.join(arguments), True) for arguments in commands(services, "llambert")] == [None]


def test_buckets_are_made_with_the_rule_and_stay_as_they_are(s3: SeaweedFS, docker: Path) -> None:
    shutil.copy(docker / "kubernetes" / "s3" / "lifecycle.json", docker / "compose")
    keys = {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key}
    names = ["compose-landing", "compose-warehouse"]
    for _ in range(2):
        make = [sys.executable, str(docker / "compose" / "buckets.py"), s3.endpoint, *names]
        subprocess.run(make, env={**keys, "AWS_DEFAULT_REGION": "us-east-1"}, check=True)
    client = s3.client()
    for name in names:
        (rule,) = client.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
        assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 3}
