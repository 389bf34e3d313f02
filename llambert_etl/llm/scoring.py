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
_ALTERED_LOGITS = (
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "logits_soft_cap",
    "lm_head_multiplier",
    "output_multiplier",
)
# Tokens whose logits are computed at a time: in fp32 a whole head takes gigabytes, which a full GPU has not.
_SLICE = 8192


@dataclass(frozen=True)
class Row:
    """What follows the prefix in one row of a batch: the document, the suffix, and the beginning of a long label."""

    document: int
    ids: list[int]
    answer_at: int  # index of the token after which the label begins

    @property
    def steps(self) -> int:
        """Return how many tokens of labels this row is asked about."""
        return len(self.ids) - self.answer_at


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
        asked = [(number, row.answer_at + step) for number, row in enumerate(rows) for step in range(row.steps)]
        numbers, places = torch.tensor(asked, device=hidden.device).T
        with align_module_device(self._head):  # a head that is left on disk is read once for the batch
            logged = iter(self._logged(hidden[numbers, places]))
        for row in rows:
            steps = [next(logged) for _ in range(row.steps)]
            stem = row.ids[row.answer_at + 1 :]
            for label, ids in self.labels.items():
                if stem[: len(ids) - 1] == ids[:-1]:
                    scores[row.document][label] = sum(steps[step][token] for step, token in enumerate(ids))
        return [_normalised(score, self.labels) for score in scores]

    def _logged(self, states: torch.Tensor) -> list[dict[int, float]]:
        """Return for each state the log-probability of each token of a label; single ones leave out what they share."""
        tokens = sorted({token for ids in self.labels.values() for token in ids})
        states = states.to(self._head.weight.device).float()
        logits = self._logits(states, torch.tensor(tokens, device=states.device))
        if not self._single:
            slices = torch.arange(len(self._head.weight), device=states.device).split(_SLICE)  # type: ignore[no-untyped-call]
            sums = [self._logits(states, each).logsumexp(dim=-1) for each in slices]
            logits = logits - torch.stack(sums).logsumexp(dim=0)[:, None]
        return [dict(zip(tokens, row, strict=True)) for row in logits.tolist()]

    def _logits(self, states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        # In fp32 whatever the model's precision: bf16 logits near 23 step by 0.125 and tie.
        logits: torch.Tensor = states @ self._head.weight[tokens].float().T
        bias = getattr(self._head, "bias", None)
        return logits if bias is None else logits + bias[tokens].float()

    def _prefix_cache(self) -> DynamicCache:
        cache = DynamicCache(config=self._model.config)
        ids = torch.tensor([self._prefix], device=self._device)
        with torch.inference_mode():
            self._model.base_model(input_ids=ids, cache=cache, use_cache=True)
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
            cache=self._cache_for(len(rows)),
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
    config = model.config.get_text_config()  # the whole, but for a model that sees or hears too
    altered = [name for name in _ALTERED_LOGITS if getattr(config, name, None) not in (None, 1, 1.0)]
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
