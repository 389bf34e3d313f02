"""Tiny models of many architectures, saved as mirrors of published ones would be, and how each is to be padded."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from llambert_etl.encoder.card import Padding
from tests.models.encoders import LONGEST, wordpieces

_BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": LONGEST + 2,
}
_DECODER = _BERT | {"num_key_value_heads": 2, "head_dim": 8}
_BART = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
}
_T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
_XMOD = _BERT | {"languages": ["en_XX", "de_DE"]}

SETTINGS: dict[str, dict[str, Any]] = {
    "albert": _BERT | {"embedding_size": 16},
    "bart": _BART,
    "bert": _BERT,
    "big_bird": _BERT,
    "camembert": _BERT,
    "convbert": _BERT | {"embedding_size": 16},
    "deberta": _BERT,
    "deberta-v2": _BERT,
    "distilbert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32},
    "electra": _BERT | {"embedding_size": 16},
    "fnet": _BERT,
    "funnel": {"d_model": 16, "block_sizes": [1, 1], "n_head": 2, "d_head": 8, "d_inner": 32},
    "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2},
    "llama": _DECODER,
    "longformer": _BERT | {"attention_window": 8},
    "modernbert": _BERT,
    "mpnet": _BERT,
    "nystromformer": _BERT | {"segment_means_seq_len": LONGEST, "num_landmarks": LONGEST, "conv_kernel_size": 5},
    "perceiver": {"d_model": 16, "d_latents": 16, "num_latents": 4, "num_blocks": 1, "num_self_attends_per_block": 1},
    "roberta": _BERT,
    "t5": _T5,
    "xlm-roberta": _BERT,
    "xlnet": {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 32},
    "xmod": _XMOD | {"default_language": "en_XX"},
    "yoso": _BERT,
}
# The ones that are met most often, and the one that is padded on the left.
COMMON = (
    "albert",
    "bert",
    "deberta-v2",
    "distilbert",
    "electra",
    "modernbert",
    "mpnet",
    "roberta",
    "xlm-roberta",
    "xlnet",
)
# Which of them cannot be padded on the right.
PADDINGS: dict[str, Padding] = {
    "convbert": "full",
    "fnet": "full",
    "funnel": "full",
    "nystromformer": "full",
    "xlnet": "left",
    "yoso": "full",
}


def save(folder: Path, architecture: str, side: str = "", **settings: object) -> Path:
    """Save a model whose texts differ, with a tokenizer that says on which side it pads, or does not say it."""
    tokenizer = _tokenizer(architecture, side)
    torch.manual_seed(0)
    known = {"vocab_size": len(wordpieces()) + 2, "pad_token_id": tokenizer.pad_token_id, "eos_token_id": 3}
    config = AutoConfig.for_model(architecture, **(SETTINGS[architecture] | known | settings))
    model = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            # As they are initialised, small weights see nearly no difference between two texts.
            if weight.dim() > 1:
                weight.mul_(6)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(architecture: str, side: str) -> PreTrainedTokenizerBase:
    said = {"padding_side": side, "truncation_side": side} if side else {}
    if architecture in ("gpt2", "llama"):  # as theirs: nothing to pad with, and nothing added to a text
        words = ("<|end|>", "<unk>", *wordpieces())
        bare = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
        bare.pre_tokenizer = Whitespace()
        return PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<|end|>", **said)
    vocabulary = {piece: index for index, piece in enumerate(wordpieces())}
    return BertTokenizer(vocab=vocabulary, **said)
