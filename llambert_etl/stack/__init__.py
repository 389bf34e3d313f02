"""The embedded stack: a real S3, MLflow and Airflow on loopback, their state in one folder. For laptops and tests."""

from llambert_etl.stack.stack import Stack

__all__ = ["Stack"]
