"""How fast does the Encoder label, against a pipeline of transformers and a plain loop; and are the labels the same?"""

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import polars as pl
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    pipeline,
)

from benchmarks.evidence import EVIDENCE, write
from benchmarks.timing import interleaved, rates
from benchmarks.world import World, open_world
from laptop.demo.data import GOLD_TRAIN
from llambert_etl.compute.device import device, native_bf16
from llambert_etl.corpus.sampling import sample_of
from llambert_etl.encoder.card import read_card
from llambert_etl.encoder.inference import Encoder
from llambert_etl.encoder.training import LabelledTexts, fine_tune

_SEED = 5
_OURS = "Encoder"
_BATCH = 32
_LONG = 512  # tokens: all that MiniLM reads
_LONG_TEXTS = "imdb/train.parquet"
_NO_LONG_TEXTS = f"left out: LLAMBERT_BENCH_DATA names no folder with {_LONG_TEXTS} (column `text`)"
Engine = Callable[[Sequence[str]], list[str]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.label", description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000, help="short texts (default: %(default)s)")
    parser.add_argument("--long-rows", type=int, default=300, help="texts of real length (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=EVIDENCE, help="folder of label.json")
    arguments = parser.parse_args()
    world = open_world()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "encoder"
        _train(world, folder)
        short = sample_of(world.documents(), arguments.rows, _SEED)["text"].to_list()
        results: dict[str, object] = {
            "model": world.task.encoder.model,
            "precision": "bfloat16 (autocast)" if native_bf16() else "float32",
            "reviews of one sentence": _compare(folder, short, world.task.encoder.max_length, arguments.rounds),
            "reviews of real length": _NO_LONG_TEXTS,
        }
        if long := _long_texts(arguments.long_rows):
            results["reviews of real length"] = _compare(folder, long, _LONG, arguments.rounds)
    write("label", seeds=[_SEED], results=results, out=arguments.out)


def pipeline_engine(folder: Path, max_length: int) -> Engine:
    """Return transformers' own pipeline, as its documentation shows it."""
    classify = pipeline("text-classification", model=str(folder), device=device())

    def run(texts: Sequence[str]) -> list[str]:
        with _precision():
            found = classify(list(texts), batch_size=_BATCH, truncation=True, max_length=max_length)
        return [each["label"] for each in found]

    return run


def loop_engine(folder: Path, max_length: int) -> Engine:
    """Return what one writes by hand: batches in the order of the texts, each padded to its longest."""
    model, tokenizer = _model(folder).to(device()).eval(), _tokenizer(folder)  # type: ignore[arg-type]

    def run(texts: Sequence[str]) -> list[str]:
        labels: list[str] = []
        for start in range(0, len(texts), _BATCH):
            batch = list(texts[start : start + _BATCH])
            rows = tokenizer(batch, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
            with torch.inference_mode(), _precision():
                best = model(**rows.to(device())).logits.argmax(dim=1).tolist()
            labels += [model.config.id2label[index] for index in best]
        return labels

    return run


def encoder_engine(folder: Path, max_length: int) -> Engine:
    card = replace(read_card(folder), max_length=max_length)
    encoder = Encoder(_model(folder), _tokenizer(folder), card)
    return lambda texts: [encoder.labels[index] for index in encoder.predict(texts).argmax(axis=1)]


def _compare(folder: Path, texts: list[str], max_length: int, rounds: int) -> dict[str, object]:
    engines = {
        _OURS: encoder_engine(folder, max_length),
        f"transformers pipeline, batch_size={_BATCH}": pipeline_engine(folder, max_length),
        f"plain loop over padded batches of {_BATCH}": loop_engine(folder, max_length),
    }
    labels = {name: engine(texts) for name, engine in engines.items()}  # warms them up too
    seconds = interleaved({name: partial(engine, texts) for name, engine in engines.items()}, rounds)
    return {
        "rows": len(texts),
        "max_length": max_length,
        "mean_words": round(sum(len(text.split()) for text in texts) / len(texts), 1),
        "engines": rates(seconds, len(texts), _OURS),
        "same_label_as": {
            name: f"{sum(map(str.__eq__, labels[_OURS], found))} of {len(texts)}"
            for name, found in labels.items()
            if name != _OURS
        },
    }


def _train(world: World, folder: Path) -> None:
    """Train on a few gold rows: labels of an untrained head would all be near a half, and agree by chance."""
    task = world.task
    rows = sample_of(world.documents(), GOLD_TRAIN, _SEED).join(world.truth, on="id")
    gold = LabelledTexts(tuple(rows["text"]), tuple(task.label_names.index(label) for label in rows["truth"]))
    fine_tune(task.encoder, task.label_names, [gold], LabelledTexts((), ()), world.settings, folder)


def _long_texts(rows: int) -> list[str]:
    path = Path(os.environ.get("LLAMBERT_BENCH_DATA", "")) / _LONG_TEXTS
    return pl.read_parquet(path, columns=["text"])["text"].sample(rows, seed=_SEED).to_list() if path.is_file() else []


def _model(folder: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)
    return model


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _precision() -> torch.autocast:
    """Give the peers the precision that Encoder chooses."""
    return torch.autocast(device().type, dtype=torch.bfloat16, enabled=native_bf16())


if __name__ == "__main__":
    main()
