"""The Airflow Dags <task>__retrain: when training is due, a new candidate, promoted where it is better."""

from llambert_etl.config import load_tasks
from llambert_etl.orchestration.dags import build_retrain
from llambert_etl.settings import load_settings

settings = load_settings()
for task in load_tasks(settings.include).tasks.values():
    build_retrain(task, settings)
