"""Run one step of the tree on PYTHONPATH, with an encoder that costs nothing and a registry of one version.

A script, not a module: `python -P step.py STEP name=value...` must not import this tree's packages beside the other's.
"""
# ruff: noqa: E402

import gc
import hashlib
import inspect
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import llambert_etl


def _has(name: str) -> bool:
    """Tell whether this tree has a module. Not by importing it: what it lacks would be found in the installed one."""
    return Path(llambert_etl.__file__).with_name(name).exists()


if _has("imports.py"):
    gc.disable()  # as the command line of this tree begins

from llambert_etl.config import find_task
from llambert_etl.lake import Lake
from llambert_etl.partition import Partition
from llambert_etl.registry import ModelVersion
from llambert_etl.settings import Settings
from llambert_etl.steps.check import check_documents, check_labels, check_staged
from llambert_etl.steps.export import export
from llambert_etl.steps.label import label
from llambert_etl.steps.plan import plan
from llambert_etl.steps.publish import publish
from llambert_etl.steps.status import status
from llambert_etl.steps.training_due import training_due

TASK = "scale"


def draw_sample(task: Any, partition: Partition, lake: Lake) -> None:
    """Draw what `annotate` asks about."""
    given = task.sample_size(), task.annotator.seed
    if _has("corpus"):
        from llambert_etl.corpus.sampling import sample

        sample(lake, task.name, partition, *given)
    else:
        from llambert_etl.documents import as_of  # type: ignore[import-not-found]
        from llambert_etl.documents import sample as earlier_sample

        earlier_sample(as_of(lake, task.name, partition), *given)


_STEPS: dict[str, Callable[..., object]] = {
    "plan": plan,
    "check_documents": check_documents,
    "check_labels": check_labels,
    "check_staged": check_staged,
    "publish": publish,
    "export": export,
    "sample": draw_sample,
    "status": status,
    "training_due": training_due,
}


class Shelf:
    """A registry that knows one version, which is champion."""

    def __init__(self, number: int) -> None:
        self._number, self._folder = number, Path(tempfile.mkdtemp(prefix="shelf-"))
        (self._folder / "model.safetensors").write_text(str(number), encoding="ascii")

    def champion(self, name: str) -> ModelVersion:
        return self.version(name, self._number)

    def version(self, name: str, number: int) -> ModelVersion:
        return ModelVersion(
            task=name,
            name=f"llambert.{name}",
            version=number,
            run_id=f"run{number}",
            hashes={"model.safetensors": hashlib.sha256(str(number).encode()).hexdigest()},
            metrics={},
            labels=find_task(_settings().include, name).label_names,
            config_hash="0" * 16,
            partition=Partition("2026-01-01"),
        )

    def unfit(self, *_: object) -> None:
        return None

    def announced_move(self, *_: object) -> None:
        return None

    def decision(self, *_: object) -> str:
        return ""

    def download(self, *_: object) -> Path:
        return self._folder


class Costless:
    """A classifier that looks at no text."""

    def predict(self, texts: list[str]) -> Any:
        rows = np.full((len(texts), 2), 0.25)
        rows[np.arange(len(texts)), np.arange(len(texts)) % 2] = 0.75
        return rows


class Drawn:
    """A classifier that looks at no text and gives numbers as an encoder's are, each another."""

    def __init__(self) -> None:
        self._draw = np.random.default_rng(5)

    def predict(self, texts: list[str]) -> Any:
        logits = self._draw.normal(0.0, 3.0, (len(texts), 2)).astype(np.float32).astype(np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)


def main(step: str, *given: str) -> None:
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    options = dict(pair.split("=", 1) for pair in given)
    settings = _settings(**{name: options[name] for name in ("shard_rows", "max_shards") if name in options})
    lake = Lake.from_settings(settings)
    lake.create_tables()
    everything = {
        "task": find_task(settings.include, options.get("task", TASK)),
        "partition": Partition(options["day"]),
        "run": options.get("run", "benchmark"),
        "lake": lake,
        "settings": settings,
        "registry": Shelf(int(options.get("version", 1))),
        "load": lambda _: Drawn() if "drawn" in options else Costless(),
        "progress": lambda *_: None,
        "prompt_hash": "0" * 16,
        "trained": options.get("trained"),
        "today": Partition(options["day"]),
    }
    if step == "check_staged":  # what is published, as if it were to be
        served = lake.scan("labels", TASK, Partition(options["day"]))
        everything |= {"staged": served, "documents_version": lake.version("documents")}
    if step == "label":  # `shards=2-4`: the third to the fifth
        first, _, last = options["shards"].partition("-")
        for shard in range(int(first), int(last or first) + 1):
            _call(label, everything | {"shard": shard})
    else:
        _call(_STEPS[step], everything)
    if _has("imports.py"):
        gc.freeze()  # as it ends


def _call(function: Callable[..., object], everything: dict[str, Any]) -> None:
    """Call a step with what its signature asks for: older ones take task, partition and run one by one."""
    wanted = inspect.signature(function).parameters
    if "run" in wanted and "partition" not in wanted:
        from llambert_etl.run import Run

        run = Run(everything["task"], everything["partition"], everything["run"])
        everything = everything | {"run": run}
    function(**{name: everything[name] for name in wanted if name in everything})


def _settings(**changes: Any) -> Settings:
    return Settings(**changes)


if __name__ == "__main__":
    main(*sys.argv[1:])
