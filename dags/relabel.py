"""The Airflow Dags <task>__relabel: when somebody asks for it, the labels of a range of days are made again."""

from llambert_etl.config import load_tasks
from llambert_etl.orchestration.forms import build_relabel
from llambert_etl.settings import load_settings

settings = load_settings()
for task in load_tasks(settings.include).tasks.values():
    build_relabel(task, settings)
