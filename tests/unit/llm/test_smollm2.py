"""The demo's annotator, as set-up has unpacked it: the shipped prompt in fp32 against full prompts."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from llambert_etl.compute.batching import Capacity, run_batches
from llambert_etl.config import load_task
from llambert_etl.llm.encoding import Encoding
from llambert_etl.llm.prompts import render
from llambert_etl.llm.scoring import Scorer

REPOSITORY = Path(__file__).parents[3]
MODEL = REPOSITORY / ".models" / "smollm2"
REVIEWS = {
    "One of the funniest and most touching films of the decade.": "positive",
    "A tedious mess from beginning to end.": "negative",
    "Superb acting and a clever script make this a pleasure.": "positive",
    "The jokes fall flat and the plot makes no sense.": "negative",
    "It is a delight; go and see it.": "positive",
    "Boring, loud and stupid, and much too long for the little that it has to say about anything.": "negative",
}


@pytest.mark.skipif(not MODEL.exists(), reason="the demo's models are not installed")
def test_the_demo_scores_equal_full_prompts_and_make_sense() -> None:
    task = load_task(REPOSITORY / "include" / "tasks" / "movie_sentiment.yaml")
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    encoding = Encoding.build(tokenizer, render(task, REPOSITORY / "include"), task.label_names, context=4096)
    items = [[*document.ids, *encoding.suffix] for document in encoding.documents(list(REVIEWS))]
    found = run_batches(
        items, Scorer(model, encoding.prefix, encoding.labels).score, capacity=Capacity(64), device=model.device
    )
    answers = [ids[0] for ids in encoding.labels.values()]
    for item, scores, label in zip(items, found, REVIEWS.values(), strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([[*encoding.prefix, *item]])).logits[0, -1, answers]
        whole = dict(zip(encoding.labels, torch.softmax(logits, dim=0).tolist(), strict=True))
        assert scores == pytest.approx(whole, abs=1e-4)
        assert max(whole, key=lambda name: whole[name]) == label
