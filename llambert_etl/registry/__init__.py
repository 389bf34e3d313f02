"""The model registry: versions with the sha256 of each file, and the champion alias. The only importer of mlflow."""

from llambert_etl.registry.client import Registry
from llambert_etl.registry.runs import RunMetric
from llambert_etl.registry.versions import ModelVersion, model_name, task_name

__all__ = ["RunMetric", "ModelVersion", "Registry", "model_name", "task_name"]
