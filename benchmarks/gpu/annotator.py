"""A Llama's P(label) for the prompts of IMDb against `generate` at its best batch. The weights are random."""

from collections.abc import Callable, Sequence
from functools import partial

from transformers import PreTrainedTokenizerBase

from benchmarks.annotate import best_batch, generate
from benchmarks.gpu.rates import Scale, Work
from benchmarks.gpu.shapes import llama, llama_flops
from benchmarks.timing import interleaved
from laptop.stack import REPOSITORY
from llambert_etl.config import find_task
from llambert_etl.llm.local_model import LocalModel
from llambert_etl.llm.prompts import render
from llambert_etl.llm.weights import LanguageModel
from llambert_etl.settings import Settings

SCORED = "LocalAnnotator, score"
_TASK = "imdb_sentiment"
_PROBED = 64


def measure(
    shape: dict[str, int], tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, rounds: int, scale: Scale
) -> dict[str, object]:
    task = find_task(REPOSITORY / "include", _TASK)
    task = task.model_copy(update={"annotator": task.annotator.model_copy(update={"method": "score"})})
    ours = LocalModel(task, Settings(lake=str(REPOSITORY / ".benchmarks")), render(task, REPOSITORY / "include"))
    model = llama(shape)
    ours._opened = LanguageModel(model, tokenizer)  # in place of a download
    encoding = ours.encoding
    batch = best_batch(model, encoding, texts[:_PROBED])
    # A label's own tokens are the fewest that can answer: the peer at its fastest.
    fewest = max(len(ids) for ids in encoding.labels.values())
    peer = f"transformers generate, max_new_tokens={fewest}"
    ours.annotate(texts[:_PROBED])  # warms it up, and computes the prefix
    engines: dict[str, Callable[[], object]] = {
        SCORED: partial(ours.annotate, texts),
        peer: partial(generate, model, encoding, texts, batch, fewest),
    }
    seconds = interleaved(engines, rounds)
    documents = [len(document.ids) + len(encoding.suffix) for document in encoding.documents(texts)]
    # What the answers need is the same for both: a prefix that is computed anew for each is the peer's loss.
    work = Work(len(texts), sum(documents), llama_flops(model, documents, len(encoding.prefix)))
    return {
        "shape": shape or "Llama-2-7b's",
        "precision": str(model.dtype).removeprefix("torch."),
        "tokens": {"shared_prefix": len(encoding.prefix), "document": round(sum(documents) / len(documents), 1)},
        "batch_of_generate": batch,
        "engines": {name: work.rates(times, scale) for name, times in seconds.items()},
    }
