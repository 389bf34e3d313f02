"""Exits with 0 where Airflow's API server says that all these parts of Airflow are healthy: `healthy.py scheduler`."""

import json
import sys
import urllib.request

with urllib.request.urlopen("http://airflow:8080/api/v2/monitor/health", timeout=10) as answer:  # noqa: S310
    health = json.load(answer)
sys.exit(any(health[part]["status"] != "healthy" for part in sys.argv[1:]))
