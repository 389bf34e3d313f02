"""Texts as an encoder takes them: token ids, cut at the end, and padded so that no text sways another's label."""

import logging
from collections.abc import Sequence
from typing import get_args

import torch
from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

from llambert_etl.compute.device import bf16_for
from llambert_etl.config import Recipe
from llambert_etl.encoder.card import Padding
from llambert_etl.errors import ConfigError

logger = logging.getLogger(__name__)

# No token but those that mark the ends, one, a few, and a sentence.
PROBES = ("", "a", "a text", "this is a text of more words than the others have, to stand beside them in a batch")
# Of the distance between the logits of different texts: sums in another order come to a thousandth of that.
_SAME = 1e-3
_ROUNDING = 1e-6


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int) -> list[list[int]]:
    rows = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    # A decoder's tokenizer adds nothing, and no model reads nothing.
    return [row or [tokenizer.pad_token_id] for row in rows]


def pad(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[list[int]], padding: Padding, max_length: int
) -> BatchEncoding:
    """Return the rows as one batch: as wide as its longest or, with `full`, as the longest that there can be."""
    return tokenizer.pad(
        {"input_ids": list(rows)},
        padding="max_length" if padding == "full" else "longest",
        max_length=max_length if padding == "full" else None,
        padding_side="left" if padding == "left" else "right",
        return_attention_mask=True,
        return_tensors="pt",
    )


def find_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> Padding:
    """Return the first way of padding with which the model learns and gives a text the logits that it has alone.

    A mask is not enough for every architecture: the layers of ConvBERT, FNet, Nystromformer and YOSO let what is
    padded through, and XLNet reads its answer off the last position. Raise ConfigError where there is no such way.
    """
    rows = token_ids(tokenizer, PROBES, recipe.max_length)
    fault: Exception | None = None
    ways: tuple[Padding, ...] = get_args(Padding)
    for padding in ways:
        try:
            alone = torch.cat([_logits(model, tokenizer, [row], padding, recipe) for row in rows])
            together = _logits(model, tokenizer, rows, padding, recipe)
            _learn(model, tokenizer, rows, padding, recipe)
        except Exception as error:  # an architecture that wants something else raises whatever it stumbles over
            fault = error
            continue
        if same_logits(alone, together):
            tokenizer.padding_side = "left" if padding == "left" else "right"
            if padding == "full":
                logger.info(
                    "%s: padding changes its logits, so every text is padded to encoder.max_length, %d tokens",
                    type(model).__name__,
                    recipe.max_length,
                )
            return padding
    told = " ".join(str(fault).split()) if fault else "its logits depend on what else is in a batch"
    raise ConfigError(
        f"encoder.model {recipe.model!r}: a {type(model).__name__} cannot be trained here with encoder.max_length "
        f"{recipe.max_length} ({told:.300}); mend its config.json, or choose another encoder, such as "
        "FacebookAI/roberta-base or, for many languages, FacebookAI/xlm-roberta-base"
    ) from fault


def same_logits(alone: torch.Tensor, together: torch.Tensor) -> bool:
    if not alone.isfinite().all():
        return True  # a fault of the weights, which training tells
    apart = _SAME * float((alone.max(dim=0).values - alone.min(dim=0).values).max())
    return torch.allclose(alone, together, rtol=0.0, atol=apart + _ROUNDING * float(alone.abs().max()))


@torch.no_grad()  # and not inference mode: what a model keeps from it could not be learnt with
def _logits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[list[int]],
    padding: Padding,
    recipe: Recipe,
) -> torch.Tensor:
    model.train(False)
    found: torch.Tensor = model(**pad(tokenizer, rows, padding, recipe.max_length)).logits
    if found.shape != (len(rows), model.config.num_labels):
        raise ValueError(f"it gives logits of the shape {tuple(found.shape)} for {len(rows)} texts")
    return found


def _learn(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[list[int]],
    padding: Padding,
    recipe: Recipe,
) -> None:
    """Take the gradient of a batch and forget it: some architectures ask for more when they learn."""
    batch = pad(tokenizer, rows, padding, recipe.max_length)
    try:
        with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=bf16_for(model)):
            model.train()(**batch, labels=torch.zeros(len(rows), dtype=torch.long)).loss.backward()
    finally:
        model.zero_grad()
