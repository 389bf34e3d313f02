"""docker/kubernetes: objects that a cluster takes, and numbers and names that must agree."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import kubernetes_validate
import pytest
import yaml

from laptop.stack import REPOSITORY
from llambert_etl.config.pods import StepName
from llambert_etl.settings import Kubernetes, Settings

FOLDER = REPOSITORY / "docker" / "kubernetes"
PRODUCTION = (REPOSITORY / "docs" / "production.md").read_text(encoding="utf-8")
VERSIONS = ("1.30", "1.34", "1.37")


def objects() -> list[dict[str, Any]]:
    return [each for file in sorted(FOLDER.glob("*.yaml")) for each in yaml.safe_load_all(file.read_text()) if each]


def named(kind: str, name: str, namespace: str = "llambert") -> dict[str, Any]:
    (found,) = [
        each
        for each in objects()
        if (each["kind"], each["metadata"]["name"], each["metadata"].get("namespace")) == (kind, name, namespace)
    ]
    return found


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "helm" / "airflow.yaml").read_text())
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_objects_are_valid_for_current_versions(version: str) -> None:
    for each in objects():
        kubernetes_validate.validate(each, version, strict=True)


def test_settings_of_pods_are_settings_and_none_of_airflows_or_secret() -> None:
    names = set(named("ConfigMap", "llambert-settings")["data"])
    assert names <= {f"LLAMBERT_{name.upper()}" for name in Settings.model_fields}
    assert not {name for name in names if name.startswith(("LLAMBERT_COMPUTE", "LLAMBERT_KUBERNETES"))}
    assert not names & {"LLAMBERT_SECRETS_DIR", "LLAMBERT_STATE"}
    assert not [name for name in names if re.search("PASSWORD|SECRET|KEY|TOKEN|ALERTS|CONNECTIONS", name)]


def test_airflow_is_given_settings_that_there_are_and_the_lake_that_pods_have(values: dict[str, Any]) -> None:
    variables = {each["name"]: each["value"] for each in values["env"]}
    known = {f"LLAMBERT_{name.upper()}" for name in Settings.model_fields}
    known |= {f"LLAMBERT_KUBERNETES__{name.upper()}" for name in Kubernetes.model_fields}
    assert {name for name in variables if name.startswith("LLAMBERT_")} <= known
    pods = named("ConfigMap", "llambert-settings")["data"]
    for name in ("LLAMBERT_LAKE", "LLAMBERT_SOURCES", "LLAMBERT_S3_REGION", "LLAMBERT_MLFLOW_URI"):
        assert variables[name] == pods[name]


def test_names_are_those_that_pods_ask_for(values: dict[str, Any]) -> None:
    defaults = Kubernetes()
    named("ServiceAccount", defaults.service_account)
    named("ConfigMap", defaults.config_map)
    variables = {each["name"]: each["value"] for each in values["env"]}
    assert variables["LLAMBERT_KUBERNETES__NAMESPACE"] == defaults.namespace == "llambert"
    pods = Kubernetes(steps=json.loads(variables["LLAMBERT_KUBERNETES__STEPS"]))
    secrets = {step: pods.pod(step).secret for step in get_args(StepName)}
    made = set(re.findall(r"kubectl -n llambert create secret generic (\S+)", PRODUCTION))
    assert made == set(secrets.values())
    # Each step for which there is a policy has an identity of its own.
    assert {step for step, secret in secrets.items() if secret == f"llambert-{step}"} == {"annotate", "train", "label"}


def test_the_chart_is_given_secrets_that_are_made_before_with_the_keys_that_it_asks_for(values: dict[str, Any]) -> None:
    asked = {
        values["data"]["metadataSecretName"]: "connection",
        values["fernetKeySecretName"]: "fernet-key",
        values["apiSecretKeySecretName"]: "api-secret-key",
        values["jwtSecretName"]: "jwt-secret",
        **{each["secretName"]: each["secretKey"] for each in values["secret"]},
    }
    made = dict(re.findall(r"kubectl -n airflow create secret generic (\S+) --from-file=([\w-]+)=", PRODUCTION))
    assert made == asked
    mounted = [part["extraVolumes"][0] for part in (values["apiServer"], values["workers"]["kubernetes"])]
    folders = re.findall(r"kubectl -n airflow create secret generic (\S+) --from-file=[\w/]+$", PRODUCTION, re.M)
    assert {volume["secret"]["secretName"] for volume in mounted} == set(folders)
    # SQLAlchemy 2.1 takes a bare postgresql:// for psycopg 3, which the images do not have.
    assert "`postgresql+psycopg2://USER" in PRODUCTION


def test_the_chart_makes_no_user_whose_password_everybody_knows(values: dict[str, Any]) -> None:
    assert values["createUserJob"] == {"enabled": False}


def test_the_pool_has_as_many_slots_as_the_quota_has_gpus_for() -> None:
    hard = named("ResourceQuota", "steps")["spec"]["hard"]
    defaults = Kubernetes()
    (slots,) = re.findall(r"airflow pools set --include-deferred gpu (\d+)", PRODUCTION)
    assert int(slots) * defaults.gpus == int(hard[f"requests.{defaults.gpu_resource}"])
    beside = 2
    assert int(hard["requests.cpu"]) == int(hard["limits.cpu"]) == (int(slots) + beside) * int(defaults.cpu)
    memory = int(defaults.memory.removesuffix("Gi"))
    assert hard["requests.memory"] == hard["limits.memory"] == f"{(int(slots) + beside) * memory}Gi"


def test_who_starts_pods_may_do_nothing_else() -> None:
    for each in objects():
        if each["kind"] != "Role":
            continue
        assert {tuple(rule["resources"]) for rule in each["rules"]} == {("pods",), ("pods/log",), ("events",)}
        assert not any("*" in rule["verbs"] for rule in each["rules"])
    watcher = named("Role", "step-watcher")
    assert not any("create" in rule["verbs"] for rule in watcher["rules"])


def test_accounts_are_those_that_the_chart_makes(values: dict[str, Any]) -> None:
    bound = {each["subjects"][0]["name"] for each in objects() if each["kind"] == "RoleBinding"}
    assert bound == {values["workers"]["kubernetes"]["serviceAccount"]["name"], "airflow-triggerer"}


def test_everything_is_denied_that_no_policy_allows() -> None:
    assert named("NetworkPolicy", "default-deny")["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    ingress = [each for each in objects() if each["kind"] == "NetworkPolicy" and "ingress" in each["spec"]]
    assert [(each["metadata"]["namespace"], each["metadata"]["name"]) for each in ingress] == [("mlflow", "mlflow")]


def test_mlflow_runs_as_the_restricted_standard_asks() -> None:
    spec = named("Deployment", "mlflow", "mlflow")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_nothing_of_the_charts_default_image_is_asked_of_ours(values: dict[str, Any]) -> None:
    """Its groomers of logs are a script of that image."""
    groomed = [values[part] for part in ("scheduler", "dagProcessor", "triggerer", "workers")]
    assert [part["logGroomerSidecar"]["enabled"] for part in groomed] == [False] * 4
    dockerfile = (REPOSITORY / "docker" / "airflow.Dockerfile").read_text()
    assert f"AIRFLOW_HOME={values['airflowHome']} " in dockerfile
    assert f"USER {values['uid']}:{values['gid']}" in dockerfile
    assert f"apache-airflow=={values['airflowVersion']}" in (REPOSITORY / "constraints.txt").read_text().split()


def test_airflow_and_mlflow_have_two_of_each(values: dict[str, Any]) -> None:
    assert [values[part]["replicas"] for part in ("scheduler", "triggerer", "dagProcessor", "apiServer")] == [2] * 4
    assert named("Deployment", "mlflow", "mlflow")["spec"]["replicas"] == 2


@pytest.mark.parametrize("file", sorted((FOLDER / "s3").glob("*.json")), ids=lambda file: file.stem)
def test_a_policy_grants_no_action_and_no_bucket_as_a_whole(file: Path) -> None:
    buckets = "warehouse" if file.stem == "worker" else "warehouse|landing"  # a night reads all that was dropped
    if file.stem != "lifecycle":
        assert not re.search(rf'"s3:\*"|"\*"|:::({buckets})/\*"|:::\*', file.read_text())
