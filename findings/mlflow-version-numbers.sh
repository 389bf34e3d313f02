#!/usr/bin/env bash
# MLflow's model registry: what stands for good in the number of a model version?
#
# One would guess: within one registered model a number is never given twice, not even after the newest version was deleted, so
# (model, version) looks like a name that lasts. It is not: after a registered model was renamed, or deleted, the next
# version under the old name is 1 again, without a word. What other tables keep as (name, version) then names two models.
# And a version that is deleted takes its aliases along: who asks for the alias hears the same as before it was first set.
#
# Exits with 1 if that has changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "mlflow-skinny==3.17.2" "SQLAlchemy==2.0.51" "alembic==1.18.4"

MLFLOW_DISABLE_TELEMETRY=true "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import logging
import sys
import warnings

warnings.filterwarnings("ignore")
logging.disable(logging.INFO)
import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

client = MlflowClient(f"sqlite:///{sys.argv[1]}/mlflow.db", f"sqlite:///{sys.argv[1]}/mlflow.db")
print("mlflow", mlflow.__version__)


def version(name: str) -> int:
    return int(client.create_model_version(name, source=f"file://{sys.argv[1]}/model").version)


def asked(name: str) -> str:
    try:
        return f"version {client.get_model_version_by_alias(name, 'champion').version}"
    except MlflowException as error:
        return f"{error.error_code}: {error.message}"


client.create_registered_model("films")
never_set = asked("films")
first = [version("films") for _ in range(3)]
client.set_registered_model_alias("films", "champion", "3")
client.delete_model_version("films", "3")
deleted = asked("films")
after_delete = version("films")
print(f"versions {first}; the alias never set: {never_set!r}; its version deleted: {deleted!r}; the next one is {after_delete}")

client.set_registered_model_alias("films", "champion", "4")
client.rename_registered_model("films", "films_old")
client.create_registered_model("films")
after_rename = version("films")
print(f"after a rename the next version of 'films' is {after_rename}, and 'films_old' has {asked('films_old')}")

client.delete_registered_model("films")
client.create_registered_model("films")
after_removal = version("films")
print(f"after the model was deleted it is {after_removal}")

assert first == [1, 2, 3] and after_delete == 4, "a number within a model is given once"
assert deleted == never_set, "a deleted version's alias is told apart from one that was never set"
assert after_rename == after_removal == 1, "numbers go on where the model was renamed or deleted"
PYTHON
