"""`make verify-kubernetes`: what may befall a pod, and the whole loop as pods, on the cluster of KUBECONFIG.

docs/evidence/kubernetes.json keeps what each part has seen, with its commit.
"""

import argparse
import datetime
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.verify_kubernetes import restore
from tests.verify_kubernetes.beside import side_by_side
from tests.verify_kubernetes.deployment import clean_environment, deployment, reachable_address
from tests.verify_kubernetes.loop import RESTORED, ByHand, Loop
from tests.verify_kubernetes.overhead import measure
from tests.verify_kubernetes.scenarios import ALONE, TOGETHER, Scenario, play
from tests.verify_kubernetes.world import World, world

_AT_ONCE = 6

Say = Callable[[str], None]


def main() -> int:
    """Play the parts asked for. Return 1 where something did not hold; record what each part has found so far."""
    asked = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped
    clean_environment()
    started = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - started:7.1f} s  {what}", flush=True)

    problems: list[str] = []
    for name, part in _PARTS.items():
        if asked.part not in (None, name) or (name == "overhead" and not asked.earlier_image):
            continue
        begun, found = time.monotonic(), {}
        with tempfile.TemporaryDirectory(prefix="llambert-verify-") as folder:
            for found in part(asked, Path(folder), say):
                if not asked.only:
                    _record(name, {"seconds": round(time.monotonic() - begun), **found})
        problems += found["problems"]
    say(f"{len(problems)} problems" + "".join(f"\n  {text}" for text in problems))
    return 1 if problems else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.verify_kubernetes", description=__doc__)
    parser.add_argument("--image", required=True, help="the worker's, which the cluster has or can pull")
    parser.add_argument("--address", default="", help="of this machine, as pods reach it; found where left out")
    parser.add_argument("--api-restart", default="", help="shell command that restarts the cluster's API server")
    parser.add_argument("--earlier-image", default="", help="by earlier.Dockerfile; the part `overhead` needs it")
    parser.add_argument("--part", choices=[*_PARTS], help="this alone")
    parser.add_argument("--only", action="append", help="scenarios whose name holds this, and no record")
    asked = parser.parse_args()
    if asked.part == "overhead" and not asked.earlier_image:
        parser.error("the part `overhead` needs --earlier-image")
    return asked


def _scenarios(asked: argparse.Namespace, folder: Path, say: Say) -> Iterator[dict[str, Any]]:
    def told(scenario: Scenario) -> dict[str, Any]:
        found = play(here, scenario)
        say(f"{scenario.name}: {'; '.join(found['problems']) or 'as it must'} ({found})")
        return found

    with world(folder, asked.image, asked.api_restart) as here:
        say("Airflow is up")
        together, alone = _asked(asked, here)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            results = list(pool.map(told, together))
        results += [told(scenario) for scenario in alone]
        problems = [text for found in results for text in found["problems"]] + here.cluster.canary_in(folder)
    yield {"scenarios": {found.pop("name"): found for found in results}, "problems": problems}


def _asked(asked: argparse.Namespace, here: World) -> tuple[list[Scenario], list[Scenario]]:
    def wanted(scenario: Scenario) -> bool:
        if "API server" in scenario.name and not asked.api_restart:
            return False
        if scenario.kind == "gpu" and not here.cluster.gpus():
            return False
        return not asked.only or any(word in scenario.name for word in asked.only)

    return list(filter(wanted, TOGETHER)), list(filter(wanted, ALONE))


def _loop(asked: argparse.Namespace, folder: Path, say: Say) -> Iterator[dict[str, Any]]:
    address = asked.address or reachable_address(asked.image)
    say(f"pods reach this machine at {address}; S3, MLflow, models, objects")
    with deployment(asked.image, folder, address) as made:
        hand = ByHand(made)
        with made.airflow() as airflow, airflow.client() as client:
            say("Airflow is up")
            loop = Loop(made, client, say)
            loop.prepare()
            with hand.beside():
                nights = loop.run()
                say(f"{json.dumps(nights)}; the same nights as processes ...")
            found = {"objects": made.objects, "nights": nights, "equal": loop.compare(hand), "problems": loop.problems}
            say(json.dumps(found["equal"]))
            yield found
            before = restore.history(client)
            found["costs"] = measure(made, client, hand, say, loop.must)
            loop.secrets_in(made.folder / "airflow-state")
            yield found
        say("a backup, everything lost, and put back ...")
        backup = restore.take(made)
        restore.lose(made)
        restore.put_back(made, backup)
        with made.airflow() as airflow, airflow.client() as client:
            loop.must(before <= restore.history(client), "the restored Airflow has forgotten runs")
            loop.night_after_restore(client)
        hand.night(RESTORED)
        restored = loop.compare(hand)
        say(json.dumps(restored))
        yield {**found, "equal_after_a_restore_and_one_more_night": restored["rows"]}


def _overhead(asked: argparse.Namespace, folder: Path, say: Say) -> Iterator[dict[str, Any]]:
    address = asked.address or reachable_address(asked.image)
    yield {**side_by_side(asked.image, asked.earlier_image, address, folder, say), "problems": []}


_PARTS: dict[str, Callable[[argparse.Namespace, Path, Say], Iterator[dict[str, Any]]]] = {
    "loop": _loop,
    "scenarios": _scenarios,
    "overhead": _overhead,
}


def _record(part: str, found: dict[str, Any]) -> None:
    """Put a part's result beside what others have left."""
    from benchmarks.evidence import EVIDENCE, commit, write

    before = json.loads((EVIDENCE / "kubernetes.json").read_text())["results"]
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    results = {name: before[name] for name in _PARTS if name in before}
    results[part] = {"commit": commit(), "date": now, "load_1_minute": round(os.getloadavg()[0], 2), **found}
    write("kubernetes", seeds=[], results=results, command="make verify-kubernetes")


if __name__ == "__main__":
    sys.exit(main())
