"""Does LlamBERT's claim hold here? Combined training beats LLM labels, and LLM labels beat a few gold ones."""

import argparse
import logging
import statistics
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from benchmarks.evidence import EVIDENCE, write
from benchmarks.world import DAY, World, open_world
from laptop.demo.data import GOLD_TRAIN
from llambert_etl.config import LabellingTask
from llambert_etl.corpus.answers import labelled_answers
from llambert_etl.corpus.sampling import sample_of
from llambert_etl.encoder.inference import Encoder
from llambert_etl.encoder.metrics import Evaluation, evaluate
from llambert_etl.encoder.training import LabelledTexts, fine_tune
from llambert_etl.lake import collect
from llambert_etl.llm.local import LocalAnnotator
from llambert_etl.llm.prompts import prompt_hash
from llambert_etl.run import Run
from llambert_etl.steps.annotate import annotate

# Apart from the seeds of the LLM's sample, so that gold is not always a part of it.
_GOLD_SEED = 1_000
_NO_ROWS = LabelledTexts((), ())
_MEASURES = ("accuracy", "macro_f1")
_A_SEED_CHANGES = (
    "the sample that the LLM annotates, the gold rows that are trained on, the dev split, the encoder's new head and "
    "the order of its batches. The gold rows that are tested on are always the same, and nothing else is in common."
)


class Data(NamedTuple):
    """One seed's training rows: id, text, text_hash, label; the LLM's also have `truth`."""

    gold: pl.DataFrame
    llm: pl.DataFrame


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--labels", type=int, default=4_000, help="LLM labels to train on (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, default=EVIDENCE, help="folder of quality.json")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    world = open_world()
    annotators, runs = {}, []
    for seed in arguments.seeds:
        task = seeded(world.task, seed)
        data = read(world, task, arguments.labels, seed)
        annotators[str(seed)] = annotator_quality(task, data.llm)
        runs += [_run(seed, strategy, found) for strategy, found in train(world, task, data).items()]
    results: dict[str, object] = {
        "a_seed_changes": _A_SEED_CHANGES,
        "rows": {"llm": arguments.labels, "gold": GOLD_TRAIN, "tested": world.gold_test.height},
        "annotator": {"model": world.task.annotator.model, "by_seed": annotators},
        "encoder": world.task.encoder.model_dump(mode="json", exclude={"seed", "strategy"}),
        "mean_and_deviation": {name: _spread(_column(runs, name)) for name in ("gold", "llm", "combined")},
        "paired_differences": {
            f"{better} - {worse}": _difference(_column(runs, better), _column(runs, worse))
            for better, worse in (("llm", "gold"), ("combined", "llm"), ("combined", "gold"))
        },
        "runs": runs,
    }
    write("quality", seeds=arguments.seeds, results=results, out=arguments.out)


def seeded(task: LabellingTask, seed: int) -> LabellingTask:
    annotator = task.annotator.model_copy(update={"seed": seed})
    return task.model_copy(
        update={"annotator": annotator, "encoder": task.encoder.model_copy(update={"seed": seed})},
    )


def read(world: World, task: LabellingTask, labels: int, seed: int) -> Data:
    """Annotate what is not annotated yet, and return the rows as the train step sees them."""
    hashed = prompt_hash(task, world.settings.include)
    annotate(
        Run(task, DAY, "benchmarks"),
        lake=world.lake,
        annotator=LocalAnnotator.load(task, world.settings),
        prompt_hash=hashed,
        sample=labels,
        progress=lambda done, total: print(f"annotate: {done} of {total}", flush=True),
    )
    labelled = collect(labelled_answers(task, world.lake, hashed).select("text_hash", "label"))
    chosen = sample_of(world.documents(), labels, task.annotator.seed).join(world.truth, on="id")
    gold = sample_of(world.documents(), GOLD_TRAIN, _GOLD_SEED + seed).join(world.truth, on="id")
    return Data(
        gold=gold.with_columns(label="truth").sort("text_hash"),
        llm=chosen.join(labelled, on="text_hash").sort("text_hash"),
    )


def annotator_quality(task: LabellingTask, rows: pl.DataFrame) -> dict[str, object]:
    """Hold the LLM against the corpus's labels: a lean to one label is what an encoder would learn from it."""
    right = (rows["label"] == rows["truth"]).to_numpy()
    return {
        "labelled": rows.height,
        "accuracy": round(float(right.mean()), 4),
        "label_shares": {label: round(float((rows["label"] == label).to_numpy().mean()), 4) for label in task.labels},
        "true_shares": {label: round(float((rows["truth"] == label).to_numpy().mean()), 4) for label in task.labels},
        "recall": {label: round(float(right[(rows["truth"] == label).to_numpy()].mean()), 4) for label in task.labels},
    }


def train(world: World, task: LabellingTask, data: Data) -> dict[str, Evaluation]:
    """Train as the train step does; say what each strategy's encoder scores on the gold rows that nothing has seen.

    The first stage of `combined` is what LLM labels alone give, so one training answers for both.
    """
    gold, llm, tested = (_labelled(rows, task) for rows in (data.gold, data.llm, world.gold_test))
    found = {}

    def measure(strategy: str, encoder: Encoder) -> None:
        found[strategy] = evaluate(task.label_names, np.asarray(tested.labels), encoder.predict(tested.texts))
        print(f"seed {task.encoder.seed}, {strategy}: accuracy {found[strategy].accuracy:.4f}", flush=True)

    for strategy, stages in (("gold", [gold]), ("combined", [llm, gold])):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "encoder"
            fine_tune(task.encoder, task.label_names, stages, _NO_ROWS, world.settings, folder, partial(measure, "llm"))
            measure(strategy, Encoder.load(folder))
    return found


def _labelled(rows: pl.DataFrame, task: LabellingTask) -> LabelledTexts:
    return LabelledTexts(tuple(rows["text"]), tuple(task.label_names.index(label) for label in rows["label"]))


def _run(seed: int, strategy: str, found: Evaluation) -> dict[str, Any]:
    return {
        "seed": seed,
        "strategy": strategy,
        "accuracy": round(found.accuracy, 4),
        "macro_f1": round(found.macro_f1, 4),
        "f1": {label: round(scores.f1, 4) for label, scores in found.per_class.items()},
    }


def _column(runs: Sequence[dict[str, Any]], strategy: str) -> dict[str, list[float]]:
    return {name: [run[name] for run in runs if run["strategy"] == strategy] for name in _MEASURES}


def _spread(column: dict[str, list[float]]) -> dict[str, dict[str, float | None]]:
    return {
        name: {
            "mean": round(statistics.mean(values), 4),
            "deviation": round(statistics.stdev(values), 4) if len(values) > 1 else None,
        }
        for name, values in column.items()
    }


def _difference(better: dict[str, list[float]], worse: dict[str, list[float]]) -> dict[str, object]:
    pairs = {name: [one - other for one, other in zip(better[name], worse[name], strict=True)] for name in _MEASURES}
    spread = _spread(pairs)
    return {name: {**spread[name], "of_each_seed": [round(each, 4) for each in pairs[name]]} for name in _MEASURES}


if __name__ == "__main__":
    main()
