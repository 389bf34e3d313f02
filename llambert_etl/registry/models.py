"""Registered models: made where absent, and no version of one is given a number that was another's before."""

from typing import TYPE_CHECKING

from llambert_etl.registry.runs import EXISTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion


def ensure_model(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != EXISTS:
            raise


def use_up_numbers(
    client: "MlflowClient", name: str, there: "Iterable[MlflowVersion]", upto: int, source: str, run_id: str
) -> None:
    """Have the next version numbered above `upto`; `source` is of the run `run_id`, as MLflow wants to see.

    MLflow numbers on from what was deleted, but counts from 1 again where the whole model was deleted or renamed, while
    labels and log go on naming versions of the former one.
    """
    if any(int(version.version) >= upto for version in there):
        return
    number = 0
    while number < upto:
        number = int(client.create_model_version(name, source, run_id).version)
        client.delete_model_version(name, str(number))
