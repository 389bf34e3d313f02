"""What the benchmarks make of what lies in their lake."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, RobertaConfig, RobertaForSequenceClassification

from benchmarks.gpu.__main__ import main as gpu
from benchmarks.gpu.shapes import TINY, encoder_flops, llama_flops
from benchmarks.quality import read
from benchmarks.world import DAY, World
from laptop.stack import REPOSITORY
from llambert_etl.compute import device
from llambert_etl.lake import Lake
from llambert_etl.llm.prompts import prompt_hash
from llambert_etl.settings import Settings
from tests.given.tasks import make_task
from tests.unit.quality import frames


def test_labels_of_the_model_that_annotated_before_are_not_counted(tmp_path: Path) -> None:
    task = make_task()
    settings = Settings(lake=str(tmp_path), include=REPOSITORY / "include", model_orgs=["tests"])
    lake = Lake(settings.lake)
    lake.create_tables()
    frames.put(lake, "documents", frames.documents(task, 8), task, day=DAY)
    asked = {"prompt_hash": prompt_hash(task, settings.include)}
    said = [{**row, **asked, "label": "positive"} for row in frames.annotations(task, 8)]
    before = [{**row, "model": "tests/older", "label": "negative"} for row in said]
    frames.put(lake, "annotations", [*before, *said], task, day=DAY)
    truth = pl.DataFrame({"id": [f"d{number}" for number in range(8)], "truth": ["positive"] * 8})
    found = read(World(task, settings, lake, truth, truth.head(0)), task, labels=8, seed=1)
    assert found.llm["label"].to_list() == ["positive"] * 8


def test_all_that_a_gpu_is_measured_by_runs_on_a_processor_in_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMBERT_BENCH_DATA", raising=False)
    monkeypatch.setattr(device, "native_bf16", lambda: False)  # whose rounding would make labels of a tiny model luck
    found: dict[str, Any] = gpu(["--tiny"])
    encoder, annotator = found["tiny"], found["Llama"]
    for engines in (encoder["engines"], annotator["engines"]):
        assert all(engine["rows_per_second"] > 0 and engine["usd_per_million_texts"] > 0 for engine in engines.values())
    assert {said["same"] for said in encoder["labels_of_padded"].values()} == {"32 of 32"}
    assert annotator["tokens"]["shared_prefix"] > 50


def test_what_an_encoder_multiplies_is_what_torch_counts() -> None:
    lengths = (7, 30)
    model = RobertaForSequenceClassification(RobertaConfig(vocab_size=50, **TINY, attn_implementation="eager")).eval()
    with FlopCounterMode(display=False) as counted:
        for length in lengths:
            model.roberta(torch.ones((1, length), dtype=torch.long))
    assert counted.get_total_flops() == encoder_flops(model, lengths)


def test_what_a_llama_multiplies_behind_a_prefix_is_what_torch_counts_token_by_token() -> None:
    model = LlamaForCausalLM(LlamaConfig(vocab_size=50, **TINY, attn_implementation="eager")).eval()
    cache = DynamicCache(config=model.config)
    model.model(torch.ones((1, 3), dtype=torch.long), cache=cache, use_cache=True)
    with FlopCounterMode(display=False) as counted:
        for _ in range(5):
            model.model(torch.ones((1, 1), dtype=torch.long), cache=cache, use_cache=True)
    assert counted.get_total_flops() == llama_flops(model, [5], past=3)
