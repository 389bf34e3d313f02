"""Lets the model write its answer, as the paper did, but greedily: the same text always gets the same reply."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from llambert_etl.llm.placement import input_device
from llambert_etl.llm.thoughts import shows_marks


class Written(NamedTuple):
    text: str
    tokens: int  # of the reply alone
    cut: bool  # by the limit of its tokens


class Generator:
    """Writes replies to full prompts, padded on the left; `one_line` ends a reply at its first line break."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, max_new_tokens: int, one_line: bool
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._one_line = one_line
        ends = model.generation_config.eos_token_id if model.generation_config else None
        ends = tokenizer.eos_token_id if ends is None else ends
        self._ends = set(ends if isinstance(ends, list) else [] if ends is None else [ends])
        self._padding = next(iter(self._ends), 0)
        # In place of the model's own, which may sample, search in beams, or ask for code of the hub.
        model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=sorted(self._ends) or None,
            pad_token_id=self._padding,
        )

    @torch.inference_mode()
    def write(self, prompts: Sequence[list[int]]) -> list[Written]:
        longest, device = max(len(ids) for ids in prompts), input_device(self._model)
        ids = torch.full((len(prompts), longest), self._padding, dtype=torch.long)
        mask = torch.zeros((len(prompts), longest), dtype=torch.long)
        for number, prompt in enumerate(prompts):
            ids[number, longest - len(prompt) :] = torch.tensor(prompt)
            mask[number, longest - len(prompt) :] = 1
        found: torch.Tensor = self._model.generate(  # type: ignore[operator]
            input_ids=ids.to(device), attention_mask=mask.to(device)
        )
        return [self._written(reply) for reply in found[:, longest:].tolist()]

    def _written(self, ids: list[int]) -> Written:
        end = next((place for place, token in enumerate(ids) if token in self._ends), len(ids))
        text, cut = self._read(ids[:end]), end == len(ids)
        if self._one_line:
            # A model that goes on with text goes on with the next example too.
            text, ended, _ = text.lstrip().partition("\n")
            cut = cut and not ended
        return Written(text, min(end + 1, len(ids)), cut)

    def _read(self, ids: list[int]) -> str:
        # Some tokenizers hold the marks of thoughts for special; without them a thought reads like the answer.
        whole = str(self._tokenizer.decode(ids, skip_special_tokens=False))
        return whole if shows_marks(whole) else str(self._tokenizer.decode(ids, skip_special_tokens=True))
