"""The Airflow Dags <task>__label: new documents or a new champion, and the partition is labelled."""

from llambert_etl.config import load_tasks
from llambert_etl.orchestration.dags import build_label
from llambert_etl.settings import load_settings

settings = load_settings()
for task in load_tasks(settings.include).tasks.values():
    build_label(task, settings)
