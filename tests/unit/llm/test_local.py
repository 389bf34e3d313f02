"""LocalAnnotator on a tiny Llama of its own: both methods, and every way in which a model can be absent or wrong."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM, AutoTokenizer

from llambert_etl.compute.device import best_precision
from llambert_etl.config import LabellingTask
from llambert_etl.errors import TransientError
from llambert_etl.llm.local import LocalAnnotator
from llambert_etl.llm.parsing import parse
from llambert_etl.schemas import AnnotationStatus
from tests.given.local import LINES, local_settings
from tests.given.tasks import make_task, three_label_task
from tests.models.llms import save_speaking_llama, save_tiny_llama

TURNS = "{% block system %}Answer.{% endblock %}{% block user %}{{ text }}{% endblock %}"
TEXTS = ["a warm film", "dull", "x" * 40, "far too long and clumsy", "<|im_end|>"]


@pytest.mark.parametrize("template", [LINES, TURNS], ids=["completion", "chat"])
@pytest.mark.parametrize("task", [make_task(), three_label_task()], ids=["two labels", "three labels"])
def test_scoring_labels_every_text_in_order(tmp_path: Path, folder: Path, template: str, task: LabellingTask) -> None:
    annotator = LocalAnnotator.load(task, local_settings(tmp_path, folder, template))
    replies = annotator.annotate(TEXTS)
    assert len(replies) == len(TEXTS)
    for text, reply in zip(TEXTS, replies, strict=True):
        assert reply.status == AnnotationStatus.LABELLED
        assert reply.probabilities is not None
        assert reply.label == reply.raw == max(reply.probabilities, key=lambda label: reply.probabilities[label])
        assert tuple(reply.probabilities) == task.label_names
        alone = annotator.annotate([text])[0]
        assert alone.label == reply.label
        assert alone.tokens == reply.tokens > len(text.split())


def test_generation_is_greedy_and_strictly_parsed(tmp_path: Path, folder: Path) -> None:
    task = make_task(annotator={"method": "generate", "max_new_tokens": 4})
    annotator = LocalAnnotator.load(task, local_settings(tmp_path, folder, TURNS))
    replies = annotator.annotate(TEXTS)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=best_precision()).eval()
    for document, reply in zip(annotator.opened.encoding.documents(TEXTS), replies, strict=True):
        ids = torch.tensor([annotator.opened.encoding.prefix + document.ids + annotator.opened.encoding.suffix])
        with torch.no_grad():
            written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False)
        assert reply.raw == tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
        cut = written.shape[1] - ids.shape[1] == 4 and written[0, -1] != tokenizer.eos_token_id
        assert (reply.label, reply.reason) == parse(reply.raw, task.label_names, cut=cut)
        assert reply.status == (AnnotationStatus.UNPARSED if reply.label is None else AnnotationStatus.LABELLED)
        assert reply.probabilities is None
        assert ids.shape[1] < reply.tokens <= ids.shape[1] + 4


@pytest.mark.parametrize(
    "setting",
    [
        {"do_sample": True, "temperature": 5.0},
        {"min_new_tokens": 40},
        {"suppress_tokens": list(range(200))},
        {"return_dict_in_generate": True},
        {"stop_strings": ["x"]},
        {"prompt_lookup_num_tokens": 3},
        {"dola_layers": "high"},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_a_model_s_own_settings_for_writing_change_no_reply(
    tmp_path: Path, folder: Path, setting: dict[str, Any]
) -> None:
    odd = shutil.copytree(folder, tmp_path / "model")
    own = json.loads((odd / "generation_config.json").read_text())
    (odd / "generation_config.json").write_text(json.dumps(own | setting))
    task = make_task(annotator={"method": "generate", "max_new_tokens": 4})
    plain, changed = (
        LocalAnnotator.load(task, local_settings(tmp_path, model)).annotate(TEXTS) for model in (folder, odd)
    )
    assert changed == plain


def test_a_reply_to_lines_ends_with_its_line(tmp_path: Path, folder: Path) -> None:
    task = make_task(annotator={"method": "generate", "max_new_tokens": 30})
    replies = LocalAnnotator.load(task, local_settings(tmp_path, folder)).annotate(TEXTS)
    assert all("\n" not in reply.raw for reply in replies)


@pytest.mark.parametrize(
    ("template", "tokens", "label", "reason"),
    [(TURNS, 5, "positive", None), (TURNS, 4, None, "cut_off"), (LINES, 3, "positive", None)],
    ids=["whole", "cut off", "a line, which has ended"],
)
def test_a_reply_that_its_limit_cut_off_is_no_sentence_to_read(
    tmp_path: Path, template: str, tokens: int, label: str | None, reason: str | None
) -> None:
    model = save_speaking_llama(tmp_path / "model", "It is", " positive", "\nThe film", " is")
    task = make_task(annotator={"method": "generate", "max_new_tokens": tokens})
    (reply,) = LocalAnnotator.load(task, local_settings(tmp_path, model, template)).annotate(["dull"])
    assert (reply.label, reply.reason) == (label, reason)


def test_a_thought_is_no_answer_where_the_tokenizer_holds_its_marks_for_special(tmp_path: Path) -> None:
    marks = ("[THINK]", "[/THINK]")
    model = save_speaking_llama(tmp_path / "model", marks[0], "negative", marks[1], "positive", special=marks)
    task = make_task(annotator={"method": "generate", "max_new_tokens": 8})
    (reply,) = LocalAnnotator.load(task, local_settings(tmp_path, model, TURNS)).annotate(["dull"])
    assert (reply.label, reply.raw) == ("positive", "[THINK]negative[/THINK]positive")


def test_a_text_longer_than_the_context_is_labelled_and_flagged(tmp_path: Path, folder: Path) -> None:
    replies = LocalAnnotator.load(make_task(), local_settings(tmp_path, folder)).annotate(["dull", "dull " * 2000])
    assert [reply.reason for reply in replies] == [None, "truncated"]
    assert all(reply.status == AnnotationStatus.LABELLED for reply in replies)
    assert replies[1].tokens <= 256


def test_a_model_without_finite_numbers_has_not_answered(tmp_path: Path) -> None:
    folder = save_tiny_llama(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"].fill_(float("nan"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    reply = LocalAnnotator.load(make_task(), local_settings(tmp_path, folder)).annotate(["dull"])[0]
    assert (reply.status, reply.label, reply.reason) == (AnnotationStatus.FAILED, None, "not_finite")


class _BadDevice(TorchFunctionMode):
    """Fails at the first tensor."""

    def __init__(self, error: RuntimeError) -> None:
        super().__init__()
        self._error = error

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == torch.empty:
            raise self._error
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("no room"), "LLAMBERT_LLM_MEMORY or annotator.quantization"),
        (torch.AcceleratorError("CUDA error: ECC"), "a GPU failed as it was opened .CUDA error: ECC."),
    ],
    ids=["no room", "broken"],
)
def test_a_device_that_cannot_take_the_weights_is_transient_and_says_what_to_do(
    tmp_path: Path, folder: Path, error: RuntimeError, said: str
) -> None:
    annotator = LocalAnnotator.load(make_task(), local_settings(tmp_path, folder))
    with pytest.raises(TransientError, match=said), _BadDevice(error):
        annotator.annotate(["dull"])
    assert annotator.annotate(["dull"])[0].label
