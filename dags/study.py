"""The Airflow Dags <task>__study: comparisons that somebody asks for, by a form."""

from llambert_etl.config import load_tasks
from llambert_etl.orchestration.forms import build_study
from llambert_etl.settings import load_settings

settings = load_settings()
for task in load_tasks(settings.include).tasks.values():
    build_study(task, settings)
