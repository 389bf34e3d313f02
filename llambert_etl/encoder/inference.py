"""Fast inference: rows sorted by length, batches bounded in tokens, results in the order of the texts."""

import json
from collections.abc import Iterator, Mapping, Sequence
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

from llambert_etl.compute.batching import Capacity, ahead, run_batches
from llambert_etl.compute.device import bf16_for, device, room_on_device
from llambert_etl.encoder.card import Card, read_card
from llambert_etl.encoder.inputs import pad, token_ids
from llambert_etl.encoder.packing import pack, packing, packs
from llambert_etl.errors import DataError

# Texts tokenised at once, so that memory does not follow the length of the list: enough to sort by length. Packed they
# need not be sorted, and are tokenised while those before them are labelled: few, for a device waits for the first.
_WINDOW, _PACKED_WINDOW = 8_192, 1_024
_REMEDY = "give the step a larger one"
_BATCH_TOKENS = {"cpu": 512, "cuda": 32_768}  # on a processor, what the cache of one core holds


class Encoder:
    """A fine-tuned encoder, ready to label."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        card: Card,
        *,
        packed: bool | None = None,
    ) -> None:
        """`packed`: batches without padding; by default on a GPU whose kernels are seen to give the same logits."""
        self.labels = card.labels
        self._card, self._tokenizer, self._device = card, tokenizer, device()
        self._capacity, self._bf16 = Capacity(_BATCH_TOKENS[self._device.type]), bf16_for(model)
        with room_on_device(_REMEDY):
            self._model = model.to(self._device).eval()  # type: ignore[arg-type]
            self._packed = self._packs() if packed is None else packed

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
        if self._packed:
            with packing(self._model):
                found = [self._label(rows) for rows in ahead(self._windows(texts, _PACKED_WINDOW))]
        else:
            found = [self._label(rows) for rows in self._windows(texts, _WINDOW)]
        # Only now, for a device that is asked for its results has nothing to do until it is given more.
        return np.concatenate([np.empty((0, len(self.labels))), *(logits.cpu().numpy() for logits in found)])

    def _packs(self) -> bool:
        # Where texts of like length share a batch, packing them saves a processor nothing.
        asked = self._device.type != "cpu" and self._bf16 and self._card.padding == "right"
        return asked and packs(self._model, self._tokenizer, self._card.max_length, bf16=True)

    def _windows(self, texts: Sequence[str], window: int) -> Iterator[list[list[int]]]:
        for start in range(0, len(texts), window):
            yield token_ids(self._tokenizer, texts[start : start + window], self._card.max_length)

    def _label(self, rows: list[list[int]]) -> torch.Tensor:
        found = run_batches(rows, self._forward, capacity=self._capacity, device=self._device, room=self._width)
        return torch.stack(found)

    def _width(self, row: list[int]) -> int:
        return self._card.max_length if self._card.padding == "full" else len(row)

    @torch.inference_mode()
    def _forward(self, rows: Sequence[list[int]]) -> list[torch.Tensor]:
        """Return the logits of each row, on the device: nothing here waits for them."""
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bf16):
            return list(self._model(**self._batch(rows)).logits.float())

    def _batch(self, rows: Sequence[list[int]]) -> Mapping[str, object]:
        if self._packed:
            return pack(self._model, rows)
        return pad(self._tokenizer, rows, self._card.padding, self._card.max_length).to(self._device)
