"""`make verify-faults`: the soak, the races and the sabotage, and their record in docs/evidence/faults.json."""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from laptop.host import FOREIGN, QUIET

PARTS = ("sabotage", "races", "soak")
ROUNDS = 50


def main() -> int:
    """Run the parts asked for. Return 1 where anything that must hold did not; write the record after a whole run."""
    asked = _arguments()
    _prepare()
    started = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - started:7.1f} s  {what}", flush=True)

    say(f"seed {asked.seed} (faults are drawn by it; the moment at which each strikes is the machine's)")
    results = _run(asked, say)
    print(json.dumps(results, indent=2))
    problems = [text for part in results.values() for text in part["problems"]]
    if not asked.only:
        from benchmarks.evidence import write

        found = {"seconds": round(time.monotonic() - started), **results}
        write("faults", seeds=[asked.seed], results=found, command="make verify-faults")
    say(f"{len(problems)} problems" + "".join(f"\n  {text}" for text in problems))
    return 1 if problems else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.verify_faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="of the soak")  # noqa: S311
    parser.add_argument("--minutes", type=float, default=10.0, help="after which the soak begins no more round")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each race")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part, and no record")
    return parser.parse_args()


def _prepare() -> None:
    """Set what the processes inherit, before any of them starts."""
    for name in [name for name in os.environ if name.startswith(FOREIGN)]:
        del os.environ[name]
    os.environ |= {**QUIET, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1"}


def _run(asked: argparse.Namespace, say: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    parts = asked.only or PARTS
    results: dict[str, dict[str, Any]] = {}
    if "sabotage" in parts:
        from tests.verify_faults.sabotage import sabotage

        results["sabotage"] = sabotage(say)
    if {"races", "soak"} & set(parts):
        with tempfile.TemporaryDirectory(prefix="llambert-faults-") as folder:
            results |= _on_servers(asked, parts, Path(folder), say)
    return results


def _on_servers(
    asked: argparse.Namespace, parts: tuple[str, ...], folder: Path, say: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    from tests.processes.forks import import_now, preload
    from tests.verify_faults import races
    from tests.verify_faults.soak import soak
    from tests.verify_faults.world import ground

    results: dict[str, dict[str, Any]] = {}
    preload("great_expectations", "llambert_etl.quality.docs", "llambert_etl.steps.check", "tests.verify_faults.races")
    import_now()
    with ground(folder) as servers:
        if "races" in parts:
            written = races.writers(servers, asked.rounds, say)
            house = races.House(servers)
            promoted = races.promotions(house, asked.rounds, asked.seed, say)
            requests, killed = races.crashes(house, say)
            results["races"] = {
                "rounds": asked.rounds,
                "promotion_killed_at_requests": requests,
                "problems": written + promoted + killed,
            }
        if "soak" in parts:
            results["soak"] = soak(servers, asked.seed, asked.minutes, say)
    return results


if __name__ == "__main__":
    sys.exit(main())
