"""Opens the model that training starts from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llambert_etl.config import Recipe
from llambert_etl.errors import ConfigError
from llambert_etl.hub.mirrors import find_model
from llambert_etl.settings import Settings

# Pairs of words; a tokenizer that reads any language tells those of one apart.
_DIFFER = (("good", "bad"), ("да", "нет"), ("好", "坏"), ("جيد", "سيئ"), ("अच्छा", "बुरा"), ("가", "나"), ("A", "L"))
_ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")


def load_pretrained(
    recipe: Recipe, labels: tuple[str, ...], settings: Settings
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load safetensors and no code, with a new head for `labels`. Seed before: the head is random."""
    where = find_model(recipe.model, recipe.revision, settings)
    options: dict[str, object] = {"trust_remote_code": False, "local_files_only": True}
    try:
        config = AutoConfig.from_pretrained(
            where,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id=_numbers(labels),
            problem_type="single_label_classification",
            **options,
        )
        for name in _ATTENTION_DROPOUT:
            if hasattr(config, name):
                setattr(config, name, recipe.attention_dropout)
        loaded: Any = AutoModelForSequenceClassification.from_pretrained(
            where,
            config=config,
            use_safetensors=True,
            dtype=torch.float32,  # not the checkpoint's own: in 16 bits most steps of fine-tuning round away
            ignore_mismatched_sizes=True,  # a classifier with other classes gives its body; its head is replaced
            output_loading_info=True,
            **options,
        )
    except Exception as error:  # of a folder that is odd, the libraries raise whatever they stumble over
        told = " ".join(str(error).split())
        raise ConfigError(
            f"encoder.model {recipe.model!r}: {where} is not an encoder with safetensors weights ({told:.300})"
        ) from error
    model, found = loaded
    _check_body(recipe, model, {*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])})
    tokenizer = _tokenizer(recipe, where, options)
    _give_pad_token(recipe, model, tokenizer)
    _check_vocabulary(recipe, model, tokenizer)
    longest = _longest(model, tokenizer)
    if recipe.max_length > longest:
        raise ConfigError(
            f"encoder.max_length: {recipe.max_length} exceeds what {recipe.model} reads, {longest} tokens"
        )
    return model, tokenizer


def _tokenizer(recipe: Recipe, where: Path, options: Mapping[str, object]) -> PreTrainedTokenizerBase:
    """Open the tokenizer, with what must hold for every reader of the model: it is saved with these."""
    try:
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            where,
            split_special_tokens=True,  # a document that contains "[SEP]" does not end its own sequence
            truncation_side="right",
            padding_side="right",  # given here, for what is set later is saved only where the file has it
            model_input_names=["input_ids", "attention_mask"],  # all that is trained with
            **options,
        )
    except Exception as error:  # of a file that is odd, the libraries raise whatever they stumble over
        told = " ".join(str(error).split())
        raise ConfigError(
            f"encoder.model {recipe.model!r}: the tokenizer in {where} cannot be opened ({told:.300}); mirror the "
            "model with all its tokenizer files, or choose one with a tokenizer.json"
        ) from error
    return found


def _give_pad_token(recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Have texts padded with the token that ends one where there is none to pad with, as decoders have none.

    The model is told which: decoders answer at the last token that is another one.
    """
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token_id is None:
        raise ConfigError(
            f"encoder.model {recipe.model!r}: its tokenizer has no token to pad texts with; name one as pad_token "
            "in its tokenizer_config.json"
        )
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id


def _check_vocabulary(recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ConfigError where the tokenizer has no words, or some that the model does not know.

    Of a folder without a vocabulary many classes of transformers open as one that knows no word, and say nothing.
    """
    ones, others = (
        tokenizer(list(words), add_special_tokens=False)["input_ids"] for words in zip(*_DIFFER, strict=True)
    )
    if ones == others:
        raise ConfigError(
            f"encoder.model {recipe.model!r}: its tokenizer tells no words apart, as one without its vocabulary does; "
            "mirror the model with all its tokenizer files (tokenizer.json, or vocab.txt, vocab.json, *.model)"
        )
    known = getattr(model.config.get_text_config(), "vocab_size", None)
    if known is None:
        return
    special = set(tokenizer.all_special_tokens)  # which no text has
    highest = max(number for token, number in tokenizer.get_vocab().items() if token not in special)
    if highest >= known:
        raise ConfigError(
            f"encoder.model {recipe.model!r}: its tokenizer gives tokens up to {highest}, and the model knows {known}: "
            "they do not belong together; mirror the model again"
        )


def _check_body(recipe: Recipe, model: PreTrainedModel, absent: set[str]) -> None:
    """Raise ConfigError where a layer would be random numbers. Heads are new, and a pooler may be: many have none."""
    body = f"{model.base_model_prefix}."
    if missing := sorted(name for name in absent if name.startswith(body) and not name.startswith(f"{body}pooler.")):
        raise ConfigError(
            f"encoder.model {recipe.model!r}: {len(missing)} weights that its config.json asks for are not in its "
            f"safetensors file, {missing[0]} among them; mirror the model again"
        )


def _longest(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many tokens fit. RoBERTa counts positions from behind its padding index: of 514, 512 are left."""
    limits = [tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", tokenizer.model_max_length)]
    limits = [limit for limit in limits if limit > 0]  # XLNet's is -1
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - unused)
    return int(min(limits))


def _numbers(labels: tuple[str, ...]) -> Mapping[str, int]:
    return {label: index for index, label in enumerate(labels)}
