"""The Airflow Dags <task>__ingest: each night, the day that has ended becomes documents."""

from llambert_etl.config import load_tasks
from llambert_etl.orchestration.dags import build_ingest
from llambert_etl.settings import load_settings

settings = load_settings()
for task in load_tasks(settings.include).tasks.values():
    build_ingest(task, settings)
