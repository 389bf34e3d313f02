"""docker/kubernetes on a cluster: its objects in namespaces of one run's own, with that run's addresses."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml
from kubernetes import client, utils
from kubernetes.utils import FailToCreateError

from laptop.stack import REPOSITORY

FOLDER = REPOSITORY / "docker" / "kubernetes"

_NAMES_NAMESPACES = ("namespace", "kubernetes.io/metadata.name")
_ABSENT = 404

Object = dict[str, Any]


class Place(NamedTuple):
    """An address and a port of this machine."""

    address: str
    port: int

    def policy(self) -> list[Object]:
        """Return what allows a pod to reach it."""
        to = [{"ipBlock": {"cidr": f"{self.address}/32"}}]
        return [{"to": to, "ports": [{"protocol": "TCP", "port": self.port}]}]


def objects(
    namespaces: Mapping[str, str], settings: Mapping[str, str], reached: Mapping[str, Place]
) -> Iterator[Object]:
    """Yield the objects as somebody has them who follows the walk. `reached`: network policy -> what it is of."""
    # Before what is in them.
    files = sorted(FOLDER.glob("*.yaml"), key=lambda file: file.stem != "namespaces")
    for found in (each for file in files for each in yaml.safe_load_all(file.read_text()) if each):
        made = _elsewhere(found, namespaces)
        kind, name = found["kind"], found["metadata"]["name"]
        if kind == "Namespace":
            made["metadata"]["name"] = namespaces[name]
        elif kind == "ConfigMap":
            made["data"] |= settings
        elif kind == "NetworkPolicy" and name in reached and "egress" in made["spec"]:
            made["spec"]["egress"] = reached[name].policy()
        elif kind == "Deployment":
            made["spec"]["replicas"] = 0  # no registry here has its image
        yield made


def apply(api: client.ApiClient, made: Iterator[Object]) -> dict[str, list[str]]:
    """Make the objects; return which were made, and which this cluster is too old to know."""
    found: dict[str, list[str]] = {"made": [], "not_known_here": []}
    for each in made:
        name = f"{each['apiVersion']} {each['kind']} {each['metadata']['name']}"
        try:
            utils.create_from_dict(api, each)
            found["made"].append(name)
        except FailToCreateError as error:
            (refusal,) = error.api_exceptions
            if refusal.status != _ABSENT or _is_about_an_object(refusal.body):
                raise
            found["not_known_here"].append(name)
    return found


def kubeconfig(account: str, namespace: str) -> str:
    """Return what reaches the cluster as a service account, with a token for a day."""
    core, here = client.CoreV1Api(), client.Configuration.get_default_copy()
    wanted = {"spec": {"expirationSeconds": 86_400, "audiences": []}}
    token = core.create_namespaced_service_account_token(account, namespace, wanted).status.token
    cluster = {"server": here.host, "certificate-authority": here.ssl_ca_cert}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": token}}],
        }
    )


def _elsewhere(value: Any, namespaces: Mapping[str, str]) -> Any:
    """Return a copy in which every name of a namespace is that of the run's own."""
    if isinstance(value, list):
        return [namespaces.get(each, each) if isinstance(each, str) else _elsewhere(each, namespaces) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: namespaces.get(each, each) if key in _NAMES_NAMESPACES else _elsewhere(each, namespaces)
        for key, each in value.items()
    }


def _is_about_an_object(body: str) -> bool:
    """Tell "this object is not there" from "there is no such kind of object"."""
    try:
        return bool(json.loads(body).get("details", {}).get("name"))
    except ValueError:
        return False
