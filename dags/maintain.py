"""The Airflow Dag maintain: each week, the tables are compacted and cleaned."""

from llambert_etl.orchestration.dags import build_maintain
from llambert_etl.settings import load_settings

build_maintain(load_settings())
