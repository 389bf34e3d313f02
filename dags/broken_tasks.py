"""No Dag: the problems of task files, as one import error of Airflow, while every other task keeps its Dags."""

from llambert_etl.config import load_tasks
from llambert_etl.errors import ConfigError
from llambert_etl.settings import load_settings

problems = load_tasks(load_settings().include).problems
if problems:
    raise ConfigError("\n".join(problems.values()))
