"""The embedded stack: a real S3, MLflow and Airflow on loopback, their state in one folder. For laptops and tests."""

from laptop.stack import Stack

__all__ = ["Stack"]
