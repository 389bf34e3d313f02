"""The record of a measurement: what was found, on which commit, when, and on which machine."""

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import torch

from laptop.stack import REPOSITORY
from llambert_etl.compute.device import native_bf16

EVIDENCE = REPOSITORY / "docs" / "evidence"
# What a result depends on. A change anywhere else leaves it as it is.
_MEASURED = ("llambert_etl", "plugins", "include", "benchmarks", "tests", "constraints.txt")


def write(
    name: str, *, seeds: Sequence[int], results: Mapping[str, object], out: Path = EVIDENCE, command: str = ""
) -> Path:
    """Write `<name>.json` into the folder `out`, and say so. `command` is by default the benchmark of that name."""
    path = out / f"{name}.json"
    record = {
        "command": command or f"python -m benchmarks.{name}",
        "commit": commit(),
        "changed_since_commit": _git("status", "--porcelain", "--", *_MEASURED).splitlines(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seeds": list(seeds),
        "machine": machine(),
        "results": results,
    }
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"written: {path}")
    return path


def commit() -> str:
    return _git("rev-parse", "HEAD")


def machine() -> dict[str, object]:
    """Return what throughput depends on, with the load at this moment: a busy machine's ratios mean nothing."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "native_bf16": native_bf16(),
        "torch_threads": torch.get_num_threads(),
        "load_1_minute": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "transformers")},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.rstrip() if done.returncode == 0 else "unknown"
