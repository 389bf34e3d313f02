#!/usr/bin/env bash
# Airflow, a Dag with catchup=False that waits for its first scheduled run: what does a backfill of some day long past start?
#
# One would guess: the runs of the backfill, and nothing else. A Dag that has never run waits for its next tick: the tick before
# it was unpaused is over, and catchup=False leaves it alone. But Airflow counts a backfill's run as the Dag's last scheduled one,
# and a Dag that has a last run, however old, is due for the latest tick that has passed. So with the next parsing of its file the
# scheduler starts the run of that tick too: on a Dag that ingests a day, yesterday is ingested beside the day of 2020 that was asked for.
# It is so with a plain cron schedule (CronTriggerTimetable) and with CronPartitionTimetable.
#
# Expected: of two Dags alike, the one without a backfill has no run, and the other one has a scheduled run beside the
# backfill's. Exits with 1 if that has changed. Takes about two minutes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check apache-airflow-core==3.3.2 apache-airflow-task-sdk==1.3.2 \
  apache-airflow-providers-standard==1.21.0 apache-airflow-providers-common-sql==2.4.0 apache-airflow-providers-common-compat==1.23.0 \
  apache-airflow-providers-common-io==1.11.0 apache-airflow-providers-smtp==3.2.0 SQLAlchemy==2.1.9 asyncpg==0.32.0 \
  fastapi==0.136.3 starlette==1.10.0 pydantic==2.14.3 cadwyn==7.0.0 alembic==1.20.1 structlog==26.1.0 httpx==0.28.1 uvicorn==0.54.0

mkdir -p "$folder/airflow/dags"
cat > "$folder/airflow/dags/alike.py" <<'PYTHON'
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, CronPartitionTimetable

SCHEDULES = {
    "cron": "0 0 1 * *",
    "partition": CronPartitionTimetable("0 0 1 * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d"),
}
for schedule in SCHEDULES:
    for kind in ("waiting", "backfilled"):
        with DAG(f"{schedule}_{kind}", schedule=SCHEDULES[schedule], catchup=False, is_paused_upon_creation=False) as dag:
            EmptyOperator(task_id="nothing")
        globals()[dag.dag_id] = dag
PYTHON

export AIRFLOW_HOME="$folder/airflow" AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=ERROR
airflow() { "$folder/venv/bin/airflow" "$@" >> "$folder/log" 2>&1 || { tail -n 30 "$folder/log" >&2; return 1; }; }
runs() {
  "$folder/venv/bin/python" - "$AIRFLOW_HOME/airflow.db" <<'PYTHON'
import sqlite3
import sys

for row in sqlite3.connect(sys.argv[1]).execute("SELECT dag_id, run_type, date(run_after) FROM dag_run ORDER BY 1, 2"):
    print(*row)
PYTHON
}

"$folder/venv/bin/pip" freeze | grep -E "^apache-airflow-(core|task-sdk)="
echo "today: $(date -u +%F)"
airflow db migrate
airflow dag-processor --num-runs 1
airflow scheduler --num-runs 20
echo "runs before any backfill: $(runs)"
test -z "$(runs)"
for dag in cron_backfilled partition_backfilled; do
  airflow backfill create --dag-id "$dag" --from-date 2020-03-01 --to-date 2020-03-01
done
airflow dag-processor --num-runs 1
airflow scheduler --num-runs 20
echo "after a backfill of 2020-03-01:"
runs
test "$(runs | cut -d ' ' -f 1,2 | tr '\n' ';')" = \
  "cron_backfilled backfill;cron_backfilled scheduled;partition_backfilled backfill;partition_backfilled scheduled;"
