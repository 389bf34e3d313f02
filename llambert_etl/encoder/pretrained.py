"""Opens the model that training starts from."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llambert_etl.config import Encoder as Recipe
from llambert_etl.errors import ConfigError
from llambert_etl.hub.models import find_model
from llambert_etl.settings import Settings

_ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")


def load_pretrained(
    recipe: Recipe, labels: tuple[str, ...], settings: Settings
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load safetensors and no code, with a new head for `labels`. Seed before: the head is random."""
    where = find_model(recipe.model, recipe.revision, settings)
    options: dict[str, object] = {"trust_remote_code": False, "local_files_only": True}
    try:
        # Saved with the tokenizer: a document that contains "[SEP]" ends its own sequence for no reader of the model.
        tokenizer = AutoTokenizer.from_pretrained(where, split_special_tokens=True, **options)
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
    longest = _longest(model, tokenizer)
    if recipe.max_length > longest:
        raise ConfigError(
            f"encoder.max_length: {recipe.max_length} exceeds what {recipe.model} reads, {longest} tokens"
        )
    return model, tokenizer


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
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - unused)
    return int(min(limits))


def _numbers(labels: tuple[str, ...]) -> Mapping[str, int]:
    return {label: index for index, label in enumerate(labels)}
