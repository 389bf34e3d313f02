"""`make verify-kubernetes`: what may befall a pod, on the cluster of KUBECONFIG; docs/evidence/kubernetes.json."""

import argparse
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.verify_kubernetes.scenarios import ALONE, TOGETHER, Scenario, play
from tests.verify_kubernetes.world import World, world

_AT_ONCE = 6


def main() -> int:
    """Play the scenarios asked for. Return 1 where one did not end as it must; write the record after a whole run."""
    asked = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped
    started = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - started:7.1f} s  {what}", flush=True)

    def told(scenario: Scenario) -> dict[str, Any]:
        found = play(here, scenario)
        say(f"{scenario.name}: {'; '.join(found['problems']) or 'as it must'} ({found})")
        return found

    with tempfile.TemporaryDirectory(prefix="llambert-verify-") as folder:
        with world(Path(folder), asked.image, asked.api_restart) as here:
            say("Airflow is up")
            together, alone = _asked(asked, here)
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                results = list(pool.map(told, together))
            results += [told(scenario) for scenario in alone]
            secrets = here.cluster.canary_in(Path(folder))
    problems = [text for found in results for text in found["problems"]] + secrets
    if not asked.only:
        from benchmarks.evidence import write

        scenarios = {found.pop("name"): found for found in results}
        found = {"seconds": round(time.monotonic() - started), "scenarios": scenarios, "problems": problems}
        write("kubernetes", seeds=[], results=found, command="make verify-kubernetes")
    say(f"{len(problems)} problems of {len(results)} scenarios" + "".join(f"\n  {text}" for text in problems))
    return 1 if problems else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.verify_kubernetes", description=__doc__)
    parser.add_argument("--image", required=True, help="that the cluster has or can pull, with a POSIX shell")
    parser.add_argument("--api-restart", default="", help="shell command that restarts the cluster's API server")
    parser.add_argument("--only", action="append", help="scenarios whose name holds this, and no record")
    return parser.parse_args()


def _asked(asked: argparse.Namespace, here: World) -> tuple[list[Scenario], list[Scenario]]:
    def wanted(scenario: Scenario) -> bool:
        if "API server" in scenario.name and not asked.api_restart:
            return False
        if scenario.kind == "gpu" and not here.cluster.gpus():
            return False
        return not asked.only or any(word in scenario.name for word in asked.only)

    return list(filter(wanted, TOGETHER)), list(filter(wanted, ALONE))


if __name__ == "__main__":
    sys.exit(main())
