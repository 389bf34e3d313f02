"""Train a candidate: LLM labels, gold, or one after the other; measured on gold, registered with its account."""

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from llambert_etl.champion.moves import highest_version
from llambert_etl.config import LabellingTask, Strategy, fingerprint
from llambert_etl.corpus.answers import labelled_answers
from llambert_etl.corpus.gold import gold_as_of, gold_hash
from llambert_etl.corpus.rare import WEIGHTS_HELP, count_of_each, never_given, tell_never_given, tell_rarest
from llambert_etl.corpus.sampling import sample
from llambert_etl.encoder.kept import checkpoints_of
from llambert_etl.errors import ConfigError, DataError
from llambert_etl.facts import Trained, Training
from llambert_etl.lake import Lake, collect
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.registry import ModelVersion, Registry
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.store.copies import settle
from llambert_etl.store.folders import Folder
from llambert_etl.store.space import room_in

if TYPE_CHECKING:
    from llambert_etl.encoder.metrics import Measurement

logger = logging.getLogger(__name__)

# Whose labels a strategy learns from, in order.
_SOURCES: Mapping[Strategy, tuple[str, ...]] = {
    "gold": ("gold",),
    "llm": ("llm",),
    "llm+extra": ("llm",),
    "combined": ("llm", "gold"),
}
# What gold says of the encoder after each stage but the last, beside its files.
_BEFORE = "stages.json"


@dataclass(frozen=True)
class _Data:
    """Frames of text, text_hash and label; `llm` has probabilities too where they are what is learnt from.

    `leaked`: rows of each that were taken out because gold tests on them.
    """

    llm: pl.DataFrame
    gold_train: pl.DataFrame
    gold_test: pl.DataFrame
    leaked: dict[str, int]
    llm_on_gold: dict[str, float]
    versions: dict[str, int]


def train(
    run: Run,
    *,
    lake: Lake,
    registry: Registry,
    settings: Settings,
    prompt_hash: str,
    strategy: Strategy | None = None,
    sample_size: int | None = None,
    soft_labels: bool | None = None,
) -> Manifest:
    """Register a candidate trained on what is known as of `partition`; return its version and gold metrics in `facts`.

    `gold.*` measures the candidate; of a combined one, `stage_1.*` measures what it was on LLM labels alone.
    `calibration.*` says which temperature its logits are divided by, `uncalibrated.*` how honest it was without.
    `labels_never_given` are those of gold's labels that it gives to no row of gold.

    The same data, configuration and seed give the version that is there already. A training that was killed goes on
    from its last checkpoint in the lake, and one whose registration failed is over: neither is done again.
    """
    if soft_labels is not None:
        encoder = run.task.encoder.model_copy(update={"soft_labels": soft_labels})
        run = replace(run, task=run.task.model_copy(update={"encoder": encoder}))
    task, partition = run.task, run.partition
    chosen = strategy or task.encoder.strategy
    size = task.sample_size(chosen, sample_size)
    data = _read(task, partition, lake, prompt_hash, size)
    stages = _stages(task, chosen, data)
    usable, leaked = sum(stage.height for stage in stages), sum(data.leaked[source] for source in _SOURCES[chosen])
    run_key = _run_key(task, partition, chosen, stages, data.gold_test)
    helps = "and counts as much as the others" if task.encoder.class_weights else WEIGHTS_HELP
    training = Training(
        strategy=chosen,
        sample=size if "llm" in _SOURCES[chosen] else 0,
        run_key=run_key,
        leaked_rows_removed=leaked,
        llm_on_gold=data.llm_on_gold,
        stages=[stage.height for stage in stages],
        rarest_label=[
            tell_rarest(f"stage {number}", count_of_each(task, stage["label"]), helps)
            for number, stage in enumerate(stages, 1)
        ],
        gold_test=data.gold_test.height,
    )
    rows = {"read": usable + leaked, "usable": usable, "leaked": leaked}
    manifest = run.manifest("train", rows=rows, versions_read=data.versions, facts=training)
    version = registry.find(task.name, run_key)
    if version is None:
        keep_in = checkpoints_of(lake, task.name, run_key)
        folder = _candidate(task, stages, data, settings, run_key, keep_in)
        used = highest_version(lake, task.name)
        version = _register(run, registry, folder, data.gold_test, manifest, training, used)
        keep_in.delete()
    trained = Trained(
        model_version=version.version,
        model_name=version.name,
        metrics=version.metrics,
        labels_never_given=tell_never_given(task, version.metrics, data.gold_test),
        mlflow_run=registry.run_page(version),
    )
    return run.finished(manifest.telling(trained))


def _read(task: LabellingTask, partition: Partition, lake: Lake, prompt_hash: str, size: int) -> _Data:
    tables = lake.snapshot("documents", "annotations", "gold")
    learnt = ["text_hash", "label", *(["probabilities"] if task.encoder.soft_labels else [])]
    gold = gold_as_of(task, tables, partition)
    test = gold.filter(pl.col("split") == "test")
    chosen = sample(tables, task.name, partition, size, task.annotator.seed)
    said = collect(labelled_answers(task, tables, prompt_hash).select(learnt))
    # A text that gold tests on must not be learnt from, under its own id or another.
    both = chosen.join(said, on="text_hash").sort("text_hash")
    tested = pl.col("id").is_in(test["id"].to_list()) | pl.col("text_hash").is_in(test["text_hash"].to_list())
    kept = both.filter(~tested).select("text", *learnt)
    judged = gold.filter(pl.col("split") == "train")
    own = judged.filter(~pl.col("text_hash").is_in(test["text_hash"].to_list()))
    return _Data(
        llm=kept,
        gold_train=own.select("text", "text_hash", "label").sort("text_hash"),
        gold_test=test.select("text", "text_hash", "label").sort("text_hash"),
        leaked={"llm": both.height - kept.height, "gold": judged.height - own.height},
        llm_on_gold=_agreement(gold, said),
        versions=tables.versions,
    )


def _agreement(gold: pl.DataFrame, labelled: pl.DataFrame) -> dict[str, float]:
    """Return how often the LLM says what people say, on the gold texts that it was asked about."""
    shared = gold.select("text_hash", "label").unique("text_hash").join(labelled, on="text_hash", suffix="_llm")
    if shared.is_empty():
        return {"n": 0.0}
    right = shared.filter(pl.col("label") == pl.col("label_llm")).height
    return {"n": float(shared.height), "accuracy": right / shared.height}


def _stages(task: LabellingTask, strategy: Strategy, data: _Data) -> list[pl.DataFrame]:
    """Return what is trained on, in order. Raise where a label is absent, before any model is loaded."""
    rows = {"llm": data.llm, "gold": data.gold_train}
    stages = [rows[source] for source in _SOURCES[strategy]]
    for stage in stages:
        counts = count_of_each(task, stage["label"])
        if min(counts.values()) >= 2:
            continue
        if stage is data.gold_train:
            raise ConfigError(
                f"{task.name}: strategy {strategy!r} needs gold train rows of every label, found {counts}"
            )
        raise DataError(
            f"{task.name}: too few LLM labels of a class to train on, found {counts}; annotate more, or mend the prompt"
        )
    return stages


def _run_key(
    task: LabellingTask, partition: Partition, strategy: Strategy, stages: list[pl.DataFrame], test: pl.DataFrame
) -> str:
    rows = [stage.drop("text").rows() for stage in [*stages, test]]
    recipe = task.encoder.identity()
    return fingerprint([task.name, list(task.labels.items()), recipe, partition, strategy, rows])


def _candidate(
    task: LabellingTask, stages: list[pl.DataFrame], data: _Data, settings: Settings, run_key: str, keep_in: Folder
) -> Path:
    """Return the trained folder of this run key: complete, or not there at all."""
    from llambert_etl.encoder.inference import Encoder
    from llambert_etl.encoder.labelled import labelled
    from llambert_etl.encoder.metrics import measure
    from llambert_etl.encoder.training import fine_tune

    target = settings.candidates / task.name / run_key
    if target.exists():
        logger.info("candidate %s was trained before; registering it", run_key)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    before: list[dict[str, float]] = []

    def after_stage(encoder: Encoder) -> None:
        before.append(measure(encoder, data.gold_test, task.label_names).evaluation.flat())

    with room_in(target.parent), tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        folder = Path(scratch) / "encoder"
        rows = [labelled(stage, task.label_names) for stage in stages]
        # Gold texts that nothing was learnt from calibrate; where there are none, the last dev split does.
        seen = pl.concat([stage.select("text_hash") for stage in stages])
        calibration = labelled(data.gold_train.join(seen, on="text_hash", how="anti"), task.label_names)
        fine_tune(task.encoder, task.label_names, rows, calibration, settings, folder, after_stage, keep_in)
        (folder / _BEFORE).write_text(json.dumps(before), encoding="utf-8")
        settle(folder, target)  # of two runs at once the first to end gives the candidate: both come to the same
    return target


def _register(
    run: Run, registry: Registry, folder: Path, test: pl.DataFrame, manifest: Manifest, training: Training, used: int
) -> ModelVersion:
    from llambert_etl.encoder.card import RECIPE
    from llambert_etl.encoder.inference import Encoder
    from llambert_etl.encoder.metrics import measure
    from llambert_etl.encoder.plots import confusion_plot, reliability_plot

    task = run.task
    measured = measure(Encoder.load(folder), test, task.label_names)
    evaluation = measured.evaluation
    metrics = {f"gold.{name}": value for name, value in evaluation.flat().items()}
    for number, before in enumerate(json.loads((folder / _BEFORE).read_text(encoding="utf-8")), 1):
        metrics |= {f"stage_{number}.{name}": value for name, value in before.items()}
    metrics |= _calibration(folder, measured)
    logger.info("gold: accuracy %.4f, macro F1 %.4f, n %d", evaluation.accuracy, evaluation.macro_f1, evaluation.n)
    with tempfile.TemporaryDirectory() as scratch:
        plots = Path(scratch)
        return registry.register(
            task.name,
            run.partition,
            run_key=training.run_key,
            folder=folder,
            labels=task.label_names,
            params={
                **json.loads((folder / RECIPE).read_text(encoding="utf-8")),
                "strategy": training.strategy,
                "sample": str(training.sample),
                **manifest.versions_read,
            },
            metrics=metrics,
            config_hash=task.config_hash,
            gold_hash=gold_hash(test),
            artifacts={
                "confusion.png": confusion_plot(evaluation, plots / "confusion.png"),
                "reliability.png": reliability_plot(
                    measured.probabilities, measured.truth, evaluation.honesty, plots / "reliability.png"
                ),
            },
            manifest=manifest.model_dump_json(indent=2),
            used=used,
            never_given=never_given(evaluation.predicted_shares, count_of_each(task, test["label"])),
        )


def _calibration(folder: Path, measured: "Measurement") -> dict[str, float]:
    """Return what the calibration found, and how honest the encoder would be on gold without it."""
    from llambert_etl.encoder.calibration import CALIBRATION, without_temperature
    from llambert_etl.encoder.metrics import honesty

    path = folder / CALIBRATION
    if not path.exists():  # trained before this was written down
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    logger.info("calibration on %d held-out rows: temperature %.4f", found["rows"], found["temperature"])
    before = honesty(measured.truth, without_temperature(measured.probabilities, found["temperature"]))
    named = {"calibration": found, "uncalibrated": asdict(before)}
    return {f"{part}.{name}": value for part, values in named.items() for name, value in values.items()}
