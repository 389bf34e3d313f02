"""How fast does LocalAnnotator score, against plain `generate`; and are its labels those of full prompts?"""

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedModel

from benchmarks.evidence import EVIDENCE, write
from benchmarks.timing import interleaved, rates
from benchmarks.world import World, open_world
from llambert_etl.corpus.sampling import sample_of
from llambert_etl.llm.encoding import Encoding
from llambert_etl.llm.local import LocalAnnotator
from llambert_etl.llm.parsing import parse
from llambert_etl.llm.weights import open_model

_SEED = 5
_OURS = "LocalAnnotator, score"
_WHOLE = "full prompts, one at a time, no shared prefix"
# The peer gets the batch that suits it best of these, on the first documents.
_BATCHES = (4, 16, 64)
_PROBED = 64


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.annotate", description=__doc__)
    parser.add_argument("--documents", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=EVIDENCE, help="folder of annotate.json")
    arguments = parser.parse_args()
    world = open_world()
    texts = sample_of(world.documents(), arguments.documents, _SEED)["text"].to_list()
    write("annotate", seeds=[_SEED], results=measure(world, texts, arguments.rounds), out=arguments.out)


def measure(world: World, texts: list[str], rounds: int) -> dict[str, object]:
    task, annotator = world.task, LocalAnnotator.load(world.task, world.settings)
    labels = [reply.label for reply in annotator.annotate(texts)]  # opens the model too
    encoding, model = annotator.opened.encoding, open_model(task.annotator, world.settings).model
    batch = best_batch(model, encoding, texts[:_PROBED])
    # A label's own tokens are the fewest that can answer: the peer at its fastest.
    fewest = max(len(ids) for ids in encoding.labels.values())
    name = f"transformers generate, max_new_tokens={fewest}"
    peer = partial(generate, model, encoding, texts, batch, fewest)
    answers = {name: [parse(said, task.label_names).label for said in peer()]}
    seconds = interleaved({_OURS: partial(annotator.annotate, texts), name: peer}, rounds)
    answers[_WHOLE] = [full_prompt_label(model, encoding, prompt) for prompt in full_prompts(encoding, texts)]
    lengths = [len(document.ids) for document in encoding.documents(texts)]
    return {
        "model": task.annotator.model,
        "precision": str(model.dtype).removeprefix("torch."),
        "documents": len(texts),
        "tokens": {"shared_prefix": len(encoding.prefix), "document": round(sum(lengths) / len(texts), 1)},
        "batch_of_generate": batch,
        "engines": rates(seconds, len(texts), _OURS),
        "same_label_as": {name: f"{_same(labels, answer)} of {len(texts)}" for name, answer in answers.items()},
    }


def full_prompts(encoding: Encoding, texts: Sequence[str]) -> list[list[int]]:
    return [[*encoding.prefix, *document.ids, *encoding.suffix] for document in encoding.documents(texts)]


@torch.inference_mode()
def generate(model: PreTrainedModel, encoding: Encoding, texts: Sequence[str], batch: int, tokens: int) -> list[str]:
    """Write replies as anyone would with transformers: by length, padded on the left, greedily."""
    prompts = full_prompts(encoding, texts)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    tokenizer = encoding.plain
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    replies: dict[int, str] = {}
    for start in range(0, len(order), batch):
        some = order[start : start + batch]
        padded = tokenizer.pad({"input_ids": [prompts[i] for i in some]}, padding_side="left", return_tensors="pt")
        found = model.generate(  # type: ignore[operator]
            **padded.to(model.device), max_new_tokens=tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
        said = tokenizer.batch_decode(found[:, padded["input_ids"].shape[1] :], skip_special_tokens=True)
        # The prompt is made of lines: what follows the first line break is the model's next example.
        replies.update({index: text.strip().split("\n")[0] for index, text in zip(some, said, strict=True)})
    return [replies[index] for index in range(len(texts))]


@torch.inference_mode()
def full_prompt_label(model: PreTrainedModel, encoding: Encoding, prompt: list[int]) -> str:
    """Return the likeliest label by plain forward passes over the whole prompt, one for each label."""
    scores = {}
    for label, ids in encoding.labels.items():
        logits = model(torch.tensor([[*prompt, *ids]], device=model.device)).logits[0, len(prompt) - 1 : -1]
        logged = torch.log_softmax(logits.float(), dim=-1)
        scores[label] = sum(float(logged[step, token]) for step, token in enumerate(ids))
    return max(scores, key=lambda label: scores[label])


def best_batch(model: PreTrainedModel, encoding: Encoding, texts: Sequence[str]) -> int:
    took = {}
    for batch in _BATCHES:
        started = time.perf_counter()
        generate(model, encoding, texts, batch, 1)
        took[batch] = time.perf_counter() - started
    return min(took, key=lambda batch: took[batch])


def _same(ours: Sequence[str | None], theirs: Sequence[str | None]) -> int:
    return sum(one is not None and one == other for one, other in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    main()
