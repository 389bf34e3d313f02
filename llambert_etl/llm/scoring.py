"""P(label) for each document, read off one forward pass a batch instead of written out token by token."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from accelerate.utils import align_module_device
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin

from llambert_etl.errors import ConfigError
from llambert_etl.llm.placement import input_device

# These settings change logits after the head, which is read directly here.
_ALTERED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling")


@dataclass(frozen=True)
class Row:
    """What follows the prefix in one row of a batch: the document, the suffix, and the beginning of a long label."""

    document: int
    ids: list[int]
    answer_at: int  # index of the token after which the label begins


class Scorer:
    """Holds the prefix's key-value cache and reads label probabilities.

    A label of several tokens gets the full log-probability of its sequence, so labels may share their first tokens.
    """

    def __init__(self, model: PreTrainedModel, prefix: list[int], labels: dict[str, list[int]]) -> None:
        _refuse_altered_logits(model)
        _refuse_nested(labels)
        self._model, self._prefix, self.labels = model, prefix, labels
        self._head, self._device = model.get_output_embeddings(), input_device(model)  # type: ignore[no-untyped-call]
        self._stems = _stems(labels)
        self._single = all(len(ids) == 1 for ids in labels.values())
        self._cache = self._prefix_cache() if prefix else None

    @property
    def rows_per_document(self) -> int:
        return len(self._stems)

    @torch.inference_mode()
    def score(self, documents: Sequence[list[int]]) -> list[dict[str, float] | None]:
        """Return P(label) normalised over the labels for each document; None where the model gave no finite number.

        `documents` are token ids of everything after the prefix.
        """
        rows = [Row(index, [*ids, *stem], len(ids) - 1) for index, ids in enumerate(documents) for stem in self._stems]
        hidden = self._forward(rows)
        scores: list[dict[str, float]] = [{} for _ in documents]
        with align_module_device(self._head):  # a head that is left on disk is read once for the batch
            for number, row in enumerate(rows):
                stem = tuple(row.ids[row.answer_at + 1 :])
                states = hidden[number, row.answer_at : row.answer_at + 1 + len(stem)]
                scores[row.document].update(self._label_scores(states, stem))
        return [_normalised(score, self.labels) for score in scores]

    def _label_scores(self, states: torch.Tensor, stem: tuple[int, ...]) -> dict[str, float]:
        """Return log-probabilities of the labels that this row reads; single-token labels leave out what they share."""
        if self._single:
            first = [ids[0] for ids in self.labels.values()]
            return dict(zip(self.labels, self._logits(states[0], first).tolist(), strict=True))
        mine = {label: ids for label, ids in self.labels.items() if stem[: len(ids) - 1] == tuple(ids[:-1])}
        logged = torch.log_softmax(self._logits(states, None), dim=-1)
        return {label: sum(float(logged[step, token]) for step, token in enumerate(ids)) for label, ids in mine.items()}

    def _logits(self, states: torch.Tensor, tokens: list[int] | None) -> torch.Tensor:
        # In fp32 whatever the model's precision: bf16 logits near 23 step by 0.125 and tie.
        weight, bias = self._head.weight, getattr(self._head, "bias", None)
        if tokens is not None:
            weight, bias = weight[tokens], None if bias is None else bias[tokens]
        logits: torch.Tensor = states.to(weight.device).float() @ weight.float().T
        return logits if bias is None else logits + bias.float()

    def _prefix_cache(self) -> DynamicCache:
        cache = DynamicCache(config=self._model.config)
        ids = torch.tensor([self._prefix], device=self._device)
        with torch.inference_mode():
            self._model.base_model(input_ids=ids, past_key_values=cache, use_cache=True)
        return cache

    def _cache_for(self, rows: int) -> DynamicCache | None:
        if self._cache is None:
            return None
        copies = copy.copy(self._cache)
        copies.layers = [_expanded(layer, rows) for layer in self._cache.layers]
        return copies

    def _forward(self, rows: Sequence[Row]) -> torch.Tensor:
        """Return the last hidden states of every row, padded on the right behind the shared prefix."""
        longest, past, device = max(len(row.ids) for row in rows), len(self._prefix), self._device
        ids = torch.zeros((len(rows), longest), dtype=torch.long)
        mask = torch.zeros((len(rows), past + longest), dtype=torch.long)
        for number, row in enumerate(rows):
            ids[number, : len(row.ids)] = torch.tensor(row.ids)
            mask[number, : past + len(row.ids)] = 1
        positions = torch.arange(past, past + longest).expand(len(rows), -1)
        found: torch.Tensor = self._model.base_model(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            position_ids=positions.to(device),
            past_key_values=self._cache_for(len(rows)),
            use_cache=self._cache is not None,
        ).last_hidden_state
        return found


def _expanded(layer: object, rows: int) -> CacheLayerMixin:
    """Return a view of a layer's keys and values for many rows: a forward pass grows a copy, never the original."""
    if not isinstance(layer, CacheLayerMixin) or layer.keys is None or layer.values is None:
        raise ConfigError("annotator.method: score needs a model with a key-value cache; use generate")
    expanded = copy.copy(layer)
    expanded.keys, expanded.values = (part.expand(rows, -1, -1, -1) for part in (layer.keys, layer.values))
    return expanded


def _stems(labels: dict[str, list[int]]) -> list[list[int]]:
    """Return the label beginnings to run: each label without its last token, less those that another begins with."""
    stems = {tuple(ids[:-1]) for ids in labels.values()}
    return [
        list(stem) for stem in sorted(stems) if not any(other != stem and other[: len(stem)] == stem for other in stems)
    ]


def _normalised(score: dict[str, float], labels: dict[str, list[int]]) -> dict[str, float] | None:
    if not all(math.isfinite(score[label]) for label in labels):
        return None
    highest = max(score.values())
    weights = {label: math.exp(score[label] - highest) for label in labels}
    total = sum(weights.values())
    return {label: weight / total for label, weight in weights.items()}


def _refuse_altered_logits(model: PreTrainedModel) -> None:
    altered = [name for name in _ALTERED_LOGITS if getattr(model.config, name, None) not in (None, 1, 1.0)]
    if altered:
        raise ConfigError(
            f"annotator.method: score does not know this model's {altered[0]}, which changes its logits; use generate"
        )


def _refuse_nested(labels: dict[str, list[int]]) -> None:
    for label, ids in labels.items():
        for other, more in labels.items():
            if label != other and more[: len(ids)] == ids:
                raise ConfigError(
                    f"labels: for this model {other!r} begins with {label!r}, so the shorter would always win; rename "
                    "one or use annotator.method: generate"
                )
