"""Label scores: in fp32 the shared prefix and the batches change nothing against one full prompt at a time."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM, Gemma3Config, LlamaConfig, LlamaForCausalLM

from llambert_etl.errors import ConfigError
from llambert_etl.llm.scoring import Scorer
from tests.models.llms import save_tiny_llama

PREFIX = [5, 9, 11, 40, 7, 33, 21]
DOCUMENTS = [[8, 30], [8], [12, 100, 101, 102, 60, 61], [90] * 11, [14, 15, 16]]
LABEL_SETS = {
    "single tokens": {"a": [50], "b": [51]},
    "three single tokens": {"a": [50], "b": [51], "c": [52]},
    "several tokens": {"a": [50, 60, 61], "b": [51, 62]},
    "shared first tokens": {"a": [50, 60, 61], "b": [50, 60, 62], "c": [50, 63], "d": [54]},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LlamaForCausalLM:
    folder = save_tiny_llama(tmp_path_factory.mktemp("llama"))
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def _by_full_prompts(
    model: LlamaForCausalLM, prefix: list[int], document: list[int], labels: dict[str, list[int]]
) -> dict[str, float]:
    """Score each label by a forward pass of its own over the whole text, from the model's own logits."""
    scores = []
    for label in labels.values():
        ids = [*prefix, *document, *label]
        with torch.no_grad():
            logged = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), dim=-1)
        begin = len(prefix) + len(document)
        scores.append(sum(logged[begin + step - 1, token] for step, token in enumerate(label)))
    return dict(zip(labels, torch.softmax(torch.stack(scores), dim=0).tolist(), strict=True))


@pytest.mark.parametrize("labels", LABEL_SETS.values(), ids=LABEL_SETS)
@pytest.mark.parametrize("prefix", [PREFIX, []], ids=["prefix", "no prefix"])
def test_scores_equal_full_prompts(model: LlamaForCausalLM, prefix: list[int], labels: dict[str, list[int]]) -> None:
    found = Scorer(model, prefix, labels).score(DOCUMENTS)
    for document, scores in zip(DOCUMENTS, found, strict=True):
        assert scores == pytest.approx(_by_full_prompts(model, prefix, document, labels), abs=1e-5)


def test_probabilities_sum_to_one_in_the_order_of_the_labels(model: LlamaForCausalLM) -> None:
    scores = Scorer(model, PREFIX, {"b": [51], "a": [50]}).score(DOCUMENTS)[0]
    assert scores is not None
    assert list(scores) == ["b", "a"]
    assert sum(scores.values()) == pytest.approx(1.0)


def test_a_batch_leaves_the_prefix_as_it_was(model: LlamaForCausalLM) -> None:
    scorer = Scorer(model, PREFIX, LABEL_SETS["single tokens"])
    first = scorer.score(DOCUMENTS)
    assert scorer.score(DOCUMENTS) == first
    assert scorer.score(DOCUMENTS[:1])[0] == pytest.approx(first[0], abs=1e-6)


def test_a_document_scores_the_same_whoever_its_neighbours_are(model: LlamaForCausalLM) -> None:
    scorer = Scorer(model, PREFIX, LABEL_SETS["shared first tokens"])
    together = scorer.score(DOCUMENTS)
    for document, scores in zip(DOCUMENTS, together, strict=True):
        assert scorer.score([document])[0] == pytest.approx(scores, abs=1e-6)


def test_numbers_that_are_not_finite_are_no_scores(tmp_path: Path) -> None:
    broken = AutoModelForCausalLM.from_pretrained(save_tiny_llama(tmp_path), dtype=torch.float32).eval()
    with torch.no_grad():
        broken.model.norm.weight.fill_(float("nan"))
    assert Scorer(broken, PREFIX, LABEL_SETS["single tokens"]).score(DOCUMENTS) == [None] * len(DOCUMENTS)


def test_a_label_that_begins_another_is_refused(model: LlamaForCausalLM) -> None:
    with pytest.raises(ConfigError, match="'long' begins with 'short'"):
        Scorer(model, PREFIX, {"short": [50], "long": [50, 60]})


class _Casts(TorchFunctionMode):
    """Counts the numbers that become fp32, and the most of them at once."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = self.most = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == torch.Tensor.float:
            self.numbers += args[0].numel()
            self.most = max(self.most, args[0].numel())
        return func(*args, **(kwargs or {}))


def test_a_large_head_is_read_once_a_batch_and_never_whole() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    large = LlamaForCausalLM(LlamaConfig(vocab_size=20_000, initializer_range=0.3, **sizes)).eval()
    labels = {"a": [50, 19_999], "b": [9_000, 60, 61], "c": [50, 52]}
    scorer = Scorer(large, PREFIX, labels)
    with _Casts() as casts:
        found = scorer.score(DOCUMENTS)
    for document, scores in zip(DOCUMENTS, found, strict=True):
        assert scores == pytest.approx(_by_full_prompts(large, PREFIX, document, labels), abs=1e-5)
    head = 20_000 * 32
    assert casts.most < head / 2
    assert casts.numbers < 1.1 * head


@pytest.mark.parametrize("of_text", [False, True], ids=["text", "text and images"])
def test_a_model_that_alters_its_logits_is_refused(tmp_path: Path, of_text: bool) -> None:
    capped = AutoModelForCausalLM.from_pretrained(save_tiny_llama(tmp_path))
    capped.config.final_logit_softcapping = 30.0
    if of_text:
        capped.config = Gemma3Config(text_config={"final_logit_softcapping": 30.0})
    with pytest.raises(ConfigError, match="final_logit_softcapping"):
        Scorer(capped, PREFIX, LABEL_SETS["single tokens"])
