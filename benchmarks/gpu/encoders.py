"""An encoder's texts packed and padded against transformers' pipeline: how fast, and are the labels the same?"""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import softmax
from transformers import PreTrainedModel, PreTrainedTokenizerBase, pipeline

from benchmarks.gpu.rates import Scale, Work
from benchmarks.gpu.shapes import LABELS, LONGEST, encoder_flops, roberta
from benchmarks.timing import interleaved
from llambert_etl.compute.device import bf16_for, device
from llambert_etl.encoder.card import Card
from llambert_etl.encoder.inference import Encoder
from llambert_etl.encoder.inputs import token_ids

PACKED, PADDED, PIPELINE = "Encoder, packed", "Encoder, sorted and padded", "transformers pipeline"
HALVED = "Encoder, packed, its weights in bf16 too"  # no default: what it would gain, and which labels it would cost
_CARD = Card(LABELS, LONGEST)
_BATCHES = (16, 64, 256)
_PROBED = 512
_SURE = 4.0  # deviation of what one label's logit is ahead of the other's
Labels = npt.NDArray[np.int64]
Engine = Callable[[Sequence[str]], Labels]


def measure(
    shape: dict[str, int],
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    compared: int,
    rounds: int,
    scale: Scale,
) -> dict[str, object]:
    """Time our engines on all texts and the pipeline on the first `compared`, on which the labels are compared too."""
    model, few = roberta(shape, tokenizer), list(texts[:compared])
    _decide(model, tokenizer, few[:_PROBED])
    exact = _encoder(model, tokenizer, packed=False, bf16=False).logits(few)
    engines, batch = _engines(model, tokenizer, few[:_PROBED])
    given = {name: few if name == PIPELINE else list(texts) for name in engines}
    labels = {name: engine(few) for name, engine in engines.items()}  # warms them up too
    seconds = interleaved({name: partial(engine, given[name]) for name, engine in engines.items()}, rounds)
    lengths = [len(row) for row in token_ids(tokenizer, texts, LONGEST)]

    def work(rows: int) -> Work:
        return Work(rows, sum(lengths[:rows]), encoder_flops(model, lengths[:rows]))

    return {
        "shape": shape,
        "precision": "bfloat16" if bf16_for(model) else "float32",
        "mean_tokens": round(sum(lengths) / len(lengths), 1),
        "packed_unless_told": Encoder(model, tokenizer, _CARD)._packed,
        "batch_of_pipeline": batch,
        "engines": {name: work(len(given[name])).rates(times, scale) for name, times in seconds.items()},
        "labels_of_fp32": {name: _agreement(exact, found) for name, found in labels.items()},
        "labels_of_padded": {
            name: _agreement(exact, found, labels[PADDED]) for name, found in labels.items() if name != PADDED
        },
    }


def _engines(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, probes: Sequence[str]
) -> tuple[Mapping[str, Engine], int]:
    """Return the engines, and the batch that suits the pipeline best."""
    bf16 = bf16_for(model)
    half = copy.deepcopy(model).bfloat16() if bf16 else model
    peers = {batch: partial(_piped, half, tokenizer, batch) for batch in _BATCHES}
    took = interleaved({str(batch): partial(peer, probes) for batch, peer in peers.items()}, 2)
    best = min(_BATCHES, key=lambda batch: min(took[str(batch)]))
    encoders = {
        PACKED: _encoder(model, tokenizer, packed=True, bf16=bf16),
        PADDED: _encoder(model, tokenizer, packed=False, bf16=bf16),
        HALVED: _encoder(half, tokenizer, packed=True, bf16=False),
    }
    ours: dict[str, Engine] = {name: partial(_labelled, encoder) for name, encoder in encoders.items()}
    return ours | {PIPELINE: peers[best]}, best


def _encoder(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, packed: bool, bf16: bool) -> Encoder:
    encoder = Encoder(model, tokenizer, _CARD, packed=packed)
    encoder._bf16 = bf16
    return encoder


def _labelled(encoder: Encoder, texts: Sequence[str]) -> Labels:
    return np.asarray(encoder.logits(texts).argmax(axis=1))


def _piped(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: int, texts: Sequence[str]) -> Labels:
    """Label as the documentation shows it: in the order of the texts, each batch padded to its longest."""
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, device=device())  # type: ignore[call-overload]
    found = classify(list(texts), batch_size=batch, truncation=True, max_length=LONGEST)
    return np.array([LABELS.index(each["label"]) for each in found])


def _decide(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> None:
    """Have random weights give both labels, as often, and be as sure of most as a trained encoder is.

    Else every text would have one label, and all engines agree, or each would be a close call.
    """
    logits = _encoder(model, tokenizer, packed=False, bf16=False).logits(texts)
    ahead = logits[:, 0] - logits[:, 1]
    head = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    with torch.no_grad():
        head.bias[1] += float(np.median(ahead))
        for parameter in head.parameters():
            parameter.mul_(_SURE / float(ahead.std()))


def _agreement(exact: npt.NDArray[np.float64], found: Labels, other: Labels | None = None) -> dict[str, object]:
    """Tell on how many texts two agree, and how sure fp32 is at most of one on which they do not: none is a half."""
    other = exact.argmax(axis=1) if other is None else other
    apart = softmax(exact, axis=1).max(axis=1)[found != other]
    return {
        "same": f"{(found == other).sum()} of {len(found)}",
        "surest_of_the_others": round(max(apart, default=0), 3),
    }
