"""Models of published shapes with random weights, texts of IMDb's lengths, and what a pass over them multiplies."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaTokenizer,
)

from llambert_etl.compute.device import best_precision, device

LABELS = ("negative", "positive")
LONGEST = 512  # tokens that RoBERTa reads
_SEED = 5
_TEXTS = "imdb/train.parquet"
# Of IMDb's reviews: the median of their words, and the deviation of the logarithm that gives their mean of 234.
_MEDIAN_WORDS, _DEVIATION = 174, 0.77
_WORDS = 20_000
_TRAINED_ON = 2_000  # texts: the tokenizer's words are to be those of texts like these, and not of all the world
# At their usual size, random weights let through of a text's tokens no more than what bf16 rounds off.
_SHARPER = 4.0
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")

ENCODERS = {
    "RoBERTa-base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "RoBERTa-large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
}
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def imdb_texts(rows: int) -> tuple[list[str], str]:
    """Return reviews, and where they are from; made-up ones of their lengths where LLAMBERT_BENCH_DATA has none."""
    path = Path(os.environ.get("LLAMBERT_BENCH_DATA", "")) / _TEXTS
    if path.is_file():
        found = pl.read_parquet(path, columns=["text"])["text"]
        return found.sample(rows, seed=_SEED, with_replacement=rows > len(found)).to_list(), "IMDb"
    drawn = np.random.default_rng(_SEED)
    letters = drawn.integers(ord("a"), ord("z") + 1, (_WORDS, 12))
    words = ["".join(map(chr, letters[number, : 2 + number % 9])) for number in range(_WORDS)]
    sizes = drawn.lognormal(np.log(_MEDIAN_WORDS), _DEVIATION, rows).astype(int) + 10
    ranks = (drawn.pareto(1.0, int(sizes.sum())) * 20).astype(int) % _WORDS  # few words are frequent
    shares = np.split(ranks, np.cumsum(sizes)[:-1])
    return [" ".join(words[rank] for rank in share) for share in shares], "made up, of IMDb's lengths"


def tokenizer_of(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerBase:
    """Return a tokenizer of RoBERTa's kind, trained here: a published one would have to be downloaded."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(texts[:_TRAINED_ON], vocabulary, special_tokens=list(_SPECIAL), show_progress=False)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    return RobertaTokenizer(vocab=model["vocab"], merges=merges, split_special_tokens=True)  # type: ignore[arg-type]


def roberta(shape: dict[str, int], tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    torch.manual_seed(_SEED)
    config = RobertaConfig(
        vocab_size=50_265,
        max_position_embeddings=LONGEST + 2,
        pad_token_id=tokenizer.pad_token_id,
        id2label=dict(enumerate(LABELS)),
        **shape,  # type: ignore[arg-type]
    )
    model = RobertaForSequenceClassification(config).to(device()).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".attention." in name and weight.dim() == 2:
                weight.mul_(_SHARPER)
    return model  # type: ignore[no-any-return]


def llama(shape: dict[str, int]) -> PreTrainedModel:
    """Return a Llama, by default of Llama-2-7b's shape, made on the device: on the host its weights take minutes."""
    torch.manual_seed(_SEED)
    config = LlamaConfig(max_position_embeddings=4096, **shape)  # type: ignore[arg-type]  # the rest is 7b's
    with torch.device(device()):
        model = LlamaForCausalLM._from_config(config, dtype=best_precision())  # type: ignore[no-untyped-call]
    return model.eval()  # type: ignore[no-any-return]


def encoder_flops(model: PreTrainedModel, lengths: Iterable[int]) -> float:
    """Return the operations of the matrix products of an encoder's layers over texts, without padding.

    For a text of s tokens and a width d, each layer has four products of s * d * d (query, key, value, output), two of
    s * d * f (the feed-forward part) and two of s * s * d (scores, and what they weigh), a multiplication and an
    addition each: as Chowdhery et al. count them (PaLM, arXiv:2204.02311, appendix B), who leave out all else.
    """
    sizes, config = np.fromiter(lengths, dtype=float), model.config
    width, inner = config.hidden_size, config.intermediate_size
    each = 2 * sizes * width * (4 * width + 2 * inner + 2 * sizes)
    return float(config.num_hidden_layers * each.sum())


def llama_flops(model: PreTrainedModel, lengths: Iterable[int], past: int) -> float:
    """Return the same of a Llama's layers over what follows `past` tokens that are computed already.

    Its feed-forward part has three products. A token's scores are those of the tokens up to it, of which a causal
    kernel computes no more. The head, read at one token and for the labels alone, is left out.
    """
    sizes, config = np.fromiter(lengths, dtype=float), model.config
    width, inner = config.hidden_size, config.intermediate_size
    seen = sizes * past + sizes * (sizes + 1) / 2
    each = 2 * width * (sizes * (4 * width + 3 * inner) + 2 * seen)
    return float(config.num_hidden_layers * each.sum())
