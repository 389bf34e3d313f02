"""Texts side by side in one row, without padding: each attends to itself alone, and has the positions it has alone.

Only attention mixes what stands in a row, so it gets a function of its own, and what follows the last layer gets each
text's first token, which is all that it reads.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutput

from llambert_etl.encoder.inputs import PROBES, pad, same_logits, token_ids

logger = logging.getLogger(__name__)

# By type, the layers: of these transformers' code lets keywords through to attention, asks its interface which
# function that is, and reads the answer off the first token.
_LAYERS = {
    "albert": "encoder",
    "bert": "encoder",
    "camembert": "encoder",
    "distilbert": "transformer",
    "electra": "encoder",
    "roberta": "encoder",
    "xlm-roberta": "encoder",
}
_ATTENTION = "llambert_packed"
# Other kernels round otherwise: so many times as far from fp32 as the texts alone is no fault of what is computed.
_ROUNDING = 8


@dataclass(frozen=True)
class Lengths:
    """How a row is shared out: the length of each text, and on the device where each begins and the last one ends."""

    each: list[int]
    bounds: torch.Tensor


def packable(model: PreTrainedModel) -> bool:
    config = model.config
    return config.model_type in _LAYERS and config._attn_implementation == "sdpa" and not model.training


@contextmanager
def packing(model: PreTrainedModel) -> Iterator[None]:
    """Have the model take what `pack` makes for as long as the context lasts; then it is as it was."""
    layers = getattr(model.base_model, _LAYERS[model.config.model_type])
    before = model.config._attn_implementation
    AttentionInterface.register(_ATTENTION, _attention)
    model.set_attn_implementation(_ATTENTION)
    hook = layers.register_forward_hook(_first_tokens, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
        model.set_attn_implementation(before)


def pack(model: PreTrainedModel, rows: Sequence[list[int]]) -> dict[str, torch.Tensor | Lengths]:
    """Return the rows as one, on the model's device. Nothing here waits for what the device is at."""
    each = [len(row) for row in rows]
    ids = torch.tensor([token for row in rows for token in row])
    bounds = torch.tensor([0, *each], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    return {
        "input_ids": _sent(ids, model.device)[None],
        "position_ids": _sent(_positions(model, ids, each), model.device)[None],
        "lengths": Lengths(each, _sent(bounds, model.device)),
    }


@torch.inference_mode()
def packs(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int, *, bf16: bool) -> bool:
    """Look whether texts have packed the logits that they have alone, here and in this precision; log it where not.

    In fp32, in which nothing but a fault makes a difference, and then with the kernels of bf16.
    """
    if not packable(model):
        return False
    rows = token_ids(tokenizer, [*PROBES, " ".join([*PROBES] * max_length)], max_length)
    try:
        exact, together = _alone(model, tokenizer, rows, bf16=False), _together(model, rows, bf16=False)
        fault = None if same_logits(exact, together) else "its logits differ"
        if bf16 and fault is None:
            rounding = (_alone(model, tokenizer, rows, bf16=True) - exact).abs().max()
            apart = (_together(model, rows, bf16=True) - exact).abs().max()
            fault = None if apart <= _ROUNDING * rounding else "its logits in bf16 differ"
    except Exception as error:  # a kernel that does not take this device or this width of a head, or whatever else
        fault = " ".join(str(error).split())
    if fault is not None:
        logger.info("%s: texts are padded and not packed (%.300s)", type(model).__name__, fault)
    return fault is None


def _alone(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[list[int]], *, bf16: bool
) -> torch.Tensor:
    with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=bf16):
        batches = [pad(tokenizer, [row], "right", len(row)).to(model.device) for row in rows]
        return torch.cat([model(**batch).logits for batch in batches]).float()


def _together(model: PreTrainedModel, rows: Sequence[list[int]], *, bf16: bool) -> torch.Tensor:
    with packing(model), torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=bf16):
        found: torch.Tensor = model(**pack(model, rows)).logits
        return found.float()


def _sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return it on the device. From pinned memory it is copied while the device is at what it was given before."""
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def _positions(model: PreTrainedModel, ids: torch.Tensor, each: Sequence[int]) -> torch.Tensor:
    """Return each token's position in its text. RoBERTa counts from behind its padding index, and without padding."""
    table = model.base_model.get_submodule("embeddings.position_embeddings")
    padding = table.padding_idx if isinstance(table, torch.nn.Embedding) else None
    counted = torch.ones_like(ids) if padding is None else ids.ne(padding).long()
    upto = counted.cumsum(0)
    starts = torch.tensor([0, *each[:-1]]).cumsum(0)
    within = upto - (upto - counted)[starts].repeat_interleave(torch.tensor(each))
    return within - 1 if padding is None else within * counted + padding


def _attention(  # type: ignore[no-untyped-def]
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    lengths: Lengths,
    scaling: float | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """Attend within each text: of (1, heads, tokens, width) make (1, tokens, heads, width), as transformers asks."""
    if _kernel_takes(query):
        query, key, value = (part[0].transpose(0, 1) for part in (query, key, value))
        bounds, longest = lengths.bounds, max(lengths.each)
        return varlen_attn(query, key, value, bounds, bounds, longest, longest, scale=scaling).unsqueeze(0), None  # type: ignore[union-attr]
    parts = [part.split_with_sizes(lengths.each, dim=2) for part in (query, key, value)]
    found = [scaled_dot_product_attention(q, k, v, scale=scaling) for q, k, v in zip(*parts, strict=True)]
    return torch.cat(found, dim=2).transpose(1, 2), None


def _kernel_takes(query: torch.Tensor) -> bool:
    return query.is_cuda and query.dtype in (torch.bfloat16, torch.float16)


def _first_tokens(  # type: ignore[no-untyped-def]
    layers: torch.nn.Module, args: tuple[object, ...], kwargs, output: BaseModelOutput
) -> BaseModelOutput:
    """Give what follows the layers a row for each text again, of its first token."""
    states: torch.Tensor = output["last_hidden_state"]
    output.last_hidden_state = states[0, kwargs["lengths"].bounds[:-1]].unsqueeze(1)
    return output
