"""Texts that share a row have the logits that they have alone; where they have not, they are padded."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from llambert_etl.encoder import inference, packing
from llambert_etl.encoder.card import Card
from llambert_etl.encoder.inference import Encoder
from llambert_etl.encoder.packing import pack, packs
from tests.models.architectures import save
from tests.models.encoders import LABELS, LONGEST

TYPES = ("albert", "bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta")
PAD = 0
# One token, that of padding alone and within a text, lengths that differ, and as many as the model reads.
ROWS = [[5], [PAD], [7, 5, 9], [2, 5, PAD, 9, 3, PAD], list(range(5, 60)), [7, 8] * (LONGEST // 2), [5]]
TEXTS = ("the film good", "", "the film bad", "a poor film " * 5, "the film good " * 40)


def opened(folder: Path, architecture: str = "bert", **settings: object) -> PreTrainedModel:
    model = AutoModelForSequenceClassification.from_pretrained(save(folder, architecture, **settings))
    assert isinstance(model, PreTrainedModel)
    return model.eval()  # type: ignore[no-any-return, no-untyped-call]


def tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(folder)


@torch.inference_mode()
def alone(model: PreTrainedModel, rows: Sequence[list[int]] = ROWS) -> torch.Tensor:
    return torch.cat([model(torch.tensor([row]), torch.ones((1, len(row)))).logits for row in rows])


@torch.inference_mode()
def together(model: PreTrainedModel, rows: Sequence[list[int]] = ROWS) -> torch.Tensor:
    with packing.packing(model):
        found: torch.Tensor = model(**pack(model, rows)).logits
        return found


def kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_bounds: torch.Tensor,
    key_bounds: torch.Tensor,
    longest_query: int,
    longest_key: int,
    *,
    scale: float,
) -> torch.Tensor:
    """Attend as a GPU's kernel is documented to: tokens first, and texts by their bounds."""
    assert (query_bounds.dtype, longest_query) == (torch.int32, int(query_bounds.diff().max()))
    assert (key_bounds.tolist(), longest_key) == (query_bounds.tolist(), longest_query)
    texts = zip(*(part.split(query_bounds.diff().tolist()) for part in (query, key, value)), strict=True)
    found = [scaled_dot_product_attention(*(part.movedim(0, 1) for part in text), scale=scale) for text in texts]
    return torch.cat([part.movedim(1, 0) for part in found])


@pytest.mark.parametrize("architecture", TYPES)
def test_texts_in_one_row_have_the_logits_that_they_have_alone(tmp_path: Path, architecture: str) -> None:
    model = opened(tmp_path, architecture)
    expected = alone(model)
    assert expected.std(dim=0).min() > 1e-2, "the texts are told apart"
    assert torch.allclose(together(model), expected, rtol=0, atol=1e-5)
    assert torch.equal(alone(model), expected), "the model is as it was"


def test_a_gpus_kernel_is_given_the_texts_as_it_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened(tmp_path, "roberta")
    expected = together(model)
    monkeypatch.setattr(packing, "_kernel_takes", lambda query: True)
    monkeypatch.setattr(packing, "varlen_attn", kernel)
    assert torch.allclose(together(model), expected, rtol=0, atol=1e-5)


def test_an_encoder_gives_packed_texts_the_probabilities_of_padded_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "_PACKED_WINDOW", 2)
    model, card = opened(tmp_path, "roberta"), Card(LABELS, LONGEST)
    padded, packed = (Encoder(model, tokenizer(tmp_path), card, packed=packed) for packed in (None, True))
    shapes: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(lambda *given: shapes.append(given[-1]["input_ids"].shape), with_kwargs=True)
    for encoder in (padded, packed):
        encoder._bf16 = False
    assert np.allclose(packed.predict(TEXTS), padded.predict(TEXTS), atol=1e-5)
    rows = {count for count, _ in shapes}
    assert rows == {1, len(TEXTS)}, "on a processor texts are padded unless they are to be packed"
    assert packed.predict([]).shape == (0, len(LABELS))


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("architecture", TYPES)
def test_an_encoder_whose_texts_may_share_a_row_is_seen_to(tmp_path: Path, architecture: str, bf16: bool) -> None:
    model = opened(tmp_path, architecture)
    assert packs(model, tokenizer(tmp_path), LONGEST, bf16=bf16)
    assert model.config._attn_implementation == "sdpa"


def positions_that_run_on(_: PreTrainedModel, ids: torch.Tensor, __: Sequence[int]) -> torch.Tensor:
    return torch.arange(len(ids)) % LONGEST


def no_kernel(*_: object, **__: object) -> torch.Tensor:
    raise RuntimeError("no kernel\nfor this device")


def wrong_kernel(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
    return value


@pytest.mark.parametrize(
    ("name", "fault", "told"),
    [
        ("_positions", positions_that_run_on, "its logits differ"),
        ("varlen_attn", no_kernel, "no kernel for this device"),
        ("varlen_attn", wrong_kernel, "its logits in bf16 differ"),
    ],
    ids=["wrong positions", "no kernel", "a wrong kernel"],
)
def test_texts_are_padded_and_the_log_says_why_where_their_logits_differ(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    fault: object,
    told: str,
) -> None:
    monkeypatch.setattr(packing, "_kernel_takes", lambda query: query.dtype == torch.bfloat16)
    monkeypatch.setattr(packing, "varlen_attn", kernel)
    monkeypatch.setattr(packing, name, fault)
    model = opened(tmp_path, "roberta")
    with caplog.at_level(logging.INFO):
        assert not packs(model, tokenizer(tmp_path), LONGEST, bf16=True)
    assert f"RobertaForSequenceClassification: texts are padded and not packed ({told})" in caplog.text
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [("bert", {"is_decoder": True}), ("mpnet", {}), ("modernbert", {}), ("deberta-v2", {}), ("xlnet", {})],
    ids=["a decoder", "mpnet", "modernbert", "deberta-v2", "xlnet"],
)
def test_other_architectures_are_padded(tmp_path: Path, architecture: str, settings: dict[str, object]) -> None:
    model = opened(tmp_path, architecture, **settings)
    assert not packs(model, tokenizer(tmp_path), LONGEST, bf16=False)
