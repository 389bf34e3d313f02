"""The peer of the study `strategies`: transformers' Trainer, as its documentation shows it, on the very same rows."""

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    set_seed,
)

from benchmarks.evidence import EVIDENCE, write
from benchmarks.imdb.world import open_subject
from llambert_etl.compute.device import native_bf16
from llambert_etl.config import Strategy
from llambert_etl.corpus.sampling import draw
from llambert_etl.hub.mirrors import find_model
from llambert_etl.studies.data import Pools, read_pools
from llambert_etl.studies.subject import Subject

# What most people begin with; no row is held out, for nothing is chosen or calibrated.
_RECIPE = {"num_train_epochs": 3, "learning_rate": 5e-5, "per_device_train_batch_size": 16}

logger = logging.getLogger(__name__)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imdb.plain", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", help="(default: those of study.yaml)")
    parser.add_argument("--out", type=Path, default=EVIDENCE / "imdb", help="folder of plain.json, which is added to")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M")
    subject, file = open_subject(arguments.seeds), arguments.out / "plain.json"
    measured = json.loads(file.read_text(encoding="utf-8"))["results"]["measured"] if file.exists() else []
    pools = read_pools(subject.task, subject.partition, subject.lake, subject.prompt_hash)
    for seed in subject.plan.seeds:
        measured = [found for found in measured if found["seed"] != seed] + list(_train(subject, pools, seed))
        write(
            "plain",
            seeds=sorted(found["seed"] for found in measured if found["strategy"] == "gold"),
            results={"recipe": _RECIPE, "measured": measured},
            out=arguments.out,
            command="LLAMBERT_BENCH_DATA=FOLDER python -m benchmarks.imdb.plain",
        )


def _train(subject: Subject, pools: Pools, seed: int) -> Iterator[dict[str, object]]:
    """Yield the accuracy after gold, after LLM labels and extra, and after gold on top of those."""
    task, plan = subject.task, subject.plan
    gold = draw(pools.gold, plan.gold_rows or pools.gold.height, seed)
    extended = draw(pools.llm, task.annotator.sample + task.annotator.extra, seed)
    roads: list[list[tuple[Strategy, pl.DataFrame]]] = [[("gold", gold)], [("llm+extra", extended), ("combined", gold)]]
    folder = find_model(task.encoder.model, task.encoder.revision, subject.settings)
    for road in roads:
        set_seed(seed)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(task.labels))
        for strategy, rows in road:
            started = time.monotonic()
            with tempfile.TemporaryDirectory() as scratch:
                trainer = _trainer(model, tokenizer, _encoded(tokenizer, rows, subject), scratch, seed)
                trainer.train()
                seconds = time.monotonic() - started
                found = trainer.predict(_encoded(tokenizer, pools.test, subject))  # type: ignore[arg-type]
            accuracy = float(np.mean(np.asarray(found.predictions).argmax(axis=1) == found.label_ids))
            logger.info("seed %s, %s: %.4f in %.0f s", seed, strategy, accuracy, seconds)
            yield {"seed": seed, "strategy": strategy, "accuracy": accuracy, "seconds": round(seconds, 1)}


def _trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[dict[str, object]],
    scratch: str,
    seed: int,
) -> Trainer:
    options = TrainingArguments(
        output_dir=scratch,
        **_RECIPE,  # type: ignore[arg-type]
        per_device_eval_batch_size=64,
        train_sampling_strategy="group_by_length",  # for speed alone
        bf16=native_bf16(),
        use_cpu=not torch.cuda.is_available(),
        logging_steps=50,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=seed,
    )
    collator = DataCollatorWithPadding(tokenizer)
    return Trainer(model=model, args=options, train_dataset=rows, data_collator=collator)


def _encoded(tokenizer: PreTrainedTokenizerBase, rows: pl.DataFrame, subject: Subject) -> list[dict[str, object]]:
    """Return the rows as tokens, short ones first: in batches of like length nothing is padded in vain."""
    ids = tokenizer(rows["text"].to_list(), truncation=True, max_length=subject.task.encoder.max_length)["input_ids"]
    names = subject.task.label_names
    encoded = [
        {"input_ids": row, "attention_mask": [1] * len(row), "labels": names.index(label)}
        for row, label in zip(ids, rows["label"], strict=True)
    ]
    return sorted(encoded, key=lambda row: len(row["input_ids"]))


if __name__ == "__main__":
    main()
