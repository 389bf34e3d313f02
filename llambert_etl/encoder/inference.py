"""Fast inference: rows sorted by length, batches bounded in tokens, results in the order of the texts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import softmax
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llambert_etl.compute.batching import run_batches
from llambert_etl.compute.device import bf16_for, device, room_on_device
from llambert_etl.encoder.card import Card, read_card
from llambert_etl.encoder.inputs import pad, token_ids
from llambert_etl.errors import DataError

_WINDOW = 8_192  # texts tokenised at once, so that memory does not follow the length of the list
_REMEDY = "give the step a larger one"
_BATCH_TOKENS = {"cpu": 512, "cuda": 32_768}  # on a processor, what the cache of one core holds


class Encoder:
    """A fine-tuned encoder, ready to label."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, card: Card) -> None:
        self.labels = card.labels
        self._card, self._tokenizer, self._device = card, tokenizer, device()
        with room_on_device(_REMEDY):
            self._model = model.to(self._device).eval()  # type: ignore[arg-type]
        self._bf16 = bf16_for(model)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load safetensors and no code. Raise DataError where the folder disagrees with its own card."""
        card = read_card(folder)
        try:
            names = json.loads((folder / "config.json").read_text(encoding="utf-8"))["id2label"]
            ordered = tuple(names[str(index)] for index in range(len(names)))
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{folder / 'config.json'}: has no readable labels; register the encoder again") from error
        if ordered != card.labels:
            raise DataError(f"{folder}: config.json has labels {ordered}, llambert.json {card.labels}; train again")
        safe = {"local_files_only": True, "trust_remote_code": False}
        model = AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True, **safe)
        # A document that contains "[SEP]" would else end its own sequence.
        tokenizer = AutoTokenizer.from_pretrained(folder, split_special_tokens=True, truncation_side="right", **safe)
        return cls(model, tokenizer, card)

    def predict(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return calibrated probabilities (n, k), columns in the order of `labels`."""
        return np.asarray(softmax(self.logits(texts), axis=1), dtype=np.float64)

    def logits(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        out = np.empty((len(texts), len(self.labels)), dtype=np.float64)
        for start in range(0, len(texts), _WINDOW):
            window = texts[start : start + _WINDOW]
            rows = token_ids(self._tokenizer, window, self._card.max_length)
            tokens = _BATCH_TOKENS[self._device.type]
            out[start : start + len(rows)] = run_batches(
                rows, self._forward, tokens=tokens, device=self._device, room=self._width
            )
        return out

    def _width(self, row: list[int]) -> int:
        return self._card.max_length if self._card.padding == "full" else len(row)

    @torch.inference_mode()
    def _forward(self, rows: Sequence[list[int]]) -> list[npt.NDArray[np.float32]]:
        padded = pad(self._tokenizer, rows, self._card.padding, self._card.max_length)
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bf16):
            return list(self._model(**padded.to(self._device)).logits.float().cpu().numpy())
