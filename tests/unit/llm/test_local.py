"""LocalAnnotator on a tiny Llama of its own: both methods, and every way in which a model can be absent or wrong."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM, AutoTokenizer

from llambert_etl.compute.device import best_precision
from llambert_etl.config import LabellingTask
from llambert_etl.errors import ConfigError, TransientError
from llambert_etl.llm.local import LocalAnnotator
from llambert_etl.llm.parsing import parse
from llambert_etl.llm.weights import unpack
from llambert_etl.schemas import AnnotationStatus
from llambert_etl.settings import Settings
from tests.given.tasks import make_task, three_label_task
from tests.models.llms import save_speaking_llama, save_tiny_llama

LINES = "{% for e in examples %}{{ e.text }} = {{ e.label }}\n{% endfor %}{{ text }} ="
TURNS = "{% block system %}Answer.{% endblock %}{% block user %}{{ text }}{% endblock %}"
TEXTS = ["a warm film", "dull", "x" * 40, "far too long and clumsy", "<|im_end|>"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("llama"))


def _settings(tmp_path: Path, model: Path | None, template: str = LINES) -> Settings:
    (tmp_path / "include" / "prompts").mkdir(parents=True, exist_ok=True)
    (tmp_path / "include" / "prompts" / "movie_sentiment.j2").write_text(template)
    paths = {} if model is None else {"tests/tiny-llama": model}
    return Settings(lake=str(tmp_path / "lake"), include=tmp_path / "include", model_orgs=["tests"], model_paths=paths)


@pytest.mark.parametrize("template", [LINES, TURNS], ids=["completion", "chat"])
@pytest.mark.parametrize("task", [make_task(), three_label_task()], ids=["two labels", "three labels"])
def test_scoring_labels_every_text_in_order(tmp_path: Path, folder: Path, template: str, task: LabellingTask) -> None:
    annotator = LocalAnnotator.load(task, _settings(tmp_path, folder, template))
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
    annotator = LocalAnnotator.load(task, _settings(tmp_path, folder, TURNS))
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
    plain, changed = (LocalAnnotator.load(task, _settings(tmp_path, model)).annotate(TEXTS) for model in (folder, odd))
    assert changed == plain


def test_a_reply_to_lines_ends_with_its_line(tmp_path: Path, folder: Path) -> None:
    task = make_task(annotator={"method": "generate", "max_new_tokens": 30})
    replies = LocalAnnotator.load(task, _settings(tmp_path, folder)).annotate(TEXTS)
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
    (reply,) = LocalAnnotator.load(task, _settings(tmp_path, model, template)).annotate(["dull"])
    assert (reply.label, reply.reason) == (label, reason)


def test_a_thought_is_no_answer_where_the_tokenizer_holds_its_marks_for_special(tmp_path: Path) -> None:
    marks = ("[THINK]", "[/THINK]")
    model = save_speaking_llama(tmp_path / "model", marks[0], "negative", marks[1], "positive", special=marks)
    task = make_task(annotator={"method": "generate", "max_new_tokens": 8})
    (reply,) = LocalAnnotator.load(task, _settings(tmp_path, model, TURNS)).annotate(["dull"])
    assert (reply.label, reply.raw) == ("positive", "[THINK]negative[/THINK]positive")


def test_a_text_longer_than_the_context_is_labelled_and_flagged(tmp_path: Path, folder: Path) -> None:
    replies = LocalAnnotator.load(make_task(), _settings(tmp_path, folder)).annotate(["dull", "dull " * 2000])
    assert [reply.reason for reply in replies] == [None, "truncated"]
    assert all(reply.status == AnnotationStatus.LABELLED for reply in replies)
    assert replies[1].tokens <= 256


def test_a_model_without_finite_numbers_has_not_answered(tmp_path: Path) -> None:
    folder = save_tiny_llama(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"].fill_(float("nan"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    reply = LocalAnnotator.load(make_task(), _settings(tmp_path, folder)).annotate(["dull"])[0]
    assert (reply.status, reply.label, reply.reason) == (AnnotationStatus.FAILED, None, "not_finite")


def test_code_beside_the_weights_never_runs(tmp_path: Path) -> None:
    folder, marker = save_tiny_llama(tmp_path / "model"), tmp_path / "ran"
    code = f"open({str(marker)!r}, 'w').close()\nclass Trap: ...\n"
    for name in ("modeling_x.py", "configuration_x.py", "tokenization_x.py"):
        (folder / name).write_text(code)
    for name, traps in {
        "config.json": {"AutoConfig": "configuration_x.Trap", "AutoModelForCausalLM": "modeling_x.Trap"},
        "tokenizer_config.json": {"AutoTokenizer": ["tokenization_x.Trap", "tokenization_x.Trap"]},
    }.items():
        config = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**config, "auto_map": traps}))
    assert LocalAnnotator.load(make_task(), _settings(tmp_path, folder)).annotate(["dull"])[0].label
    assert not marker.exists()


def test_a_model_that_needs_code_is_refused_and_its_code_never_runs(tmp_path: Path) -> None:
    folder, marker = save_tiny_llama(tmp_path / "model"), tmp_path / "ran"
    (folder / "modeling_x.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "unheard_of",
        "auto_map": {"AutoConfig": "modeling_x.C", "AutoModelForCausalLM": "modeling_x.M"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="does not open"):
        LocalAnnotator.load(make_task(), _settings(tmp_path, folder)).annotate(["dull"])
    assert not marker.exists()


def test_pickled_weights_are_refused_and_never_opened(tmp_path: Path) -> None:
    folder, marker = save_tiny_llama(tmp_path / "model"), tmp_path / "ran"
    (folder / "model.safetensors").unlink()
    # A pickle that creates the marker when it is read: `c` names the function, `R` calls it.
    trap = f"cbuiltins\nopen\n(S{str(marker)!r}\nS'w'\ntR.".encode()
    (folder / "pytorch_model.bin").write_bytes(trap)
    with pytest.raises(ConfigError, match="safetensors"):
        LocalAnnotator.load(make_task(), _settings(tmp_path, folder)).annotate(["dull"])
    assert not marker.exists()


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_an_incomplete_folder_is_refused_with_its_name(tmp_path: Path, missing: str) -> None:
    folder = save_tiny_llama(tmp_path / "model")
    (folder / missing).unlink()
    with pytest.raises(ConfigError, match=r"tests/tiny-llama.*does not open"):
        LocalAnnotator.load(make_task(), _settings(tmp_path, folder)).annotate(["dull"])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", {"num_hidden_layers": 3}),
        ("config.json", {"hidden_size": "many"}),
        ("config.json", {"num_attention_heads": 0}),
        ("config.json", {"attn_implementation": "somebody/kernels"}),
        ("tokenizer_config.json", {"eos_token": 7}),
        ("tokenizer_config.json", {"added_tokens_decoder": "x"}),
    ],
    ids=["weights missing", "no number", "divided by zero", "code of the hub", "token", "tokens"],
)
def test_a_folder_whose_files_do_not_go_together_is_refused(tmp_path: Path, name: str, change: dict[str, Any]) -> None:
    folder = save_tiny_llama(tmp_path / "model")
    (folder / name).write_text(json.dumps({**json.loads((folder / name).read_text()), **change}))
    with pytest.raises(ConfigError, match=r"tests/tiny-llama.*does not open"):
        LocalAnnotator.load(make_task(), _settings(tmp_path, folder)).annotate(["dull"])


def test_half_a_weights_file_is_refused(tmp_path: Path) -> None:
    folder = save_tiny_llama(tmp_path / "model")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ConfigError, match="does not open"):
        LocalAnnotator.load(make_task(), _settings(tmp_path, folder)).annotate(["dull"])


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
    annotator = LocalAnnotator.load(make_task(), _settings(tmp_path, folder))
    with pytest.raises(TransientError, match=said), _BadDevice(error):
        annotator.annotate(["dull"])
    assert annotator.annotate(["dull"])[0].label


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"not a model")
    with pytest.raises(ConfigError, match=r"model\.gguf does not open"):
        LocalAnnotator.load(make_task(), _settings(tmp_path, path)).annotate(["dull"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model_orgs": ["meta-llama"], "model_paths": {}},
            "models of 'tests' are not allowed here.*LLAMBERT_MODEL_ORGS",
        ),
        ({"model_paths": {"tests/tiny-llama": Path("/nowhere/model")}}, "no /nowhere/model; mend LLAMBERT_MODEL_PATHS"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused_before_anything_is_opened(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    settings = _settings(tmp_path, tmp_path).model_copy(update=changes)
    with pytest.raises(ConfigError, match=message):
        LocalAnnotator.load(make_task(), settings)


def test_a_mirrored_model_needs_no_allowed_organisation(folder: Path, tmp_path: Path) -> None:
    settings = _settings(tmp_path, folder).model_copy(update={"model_orgs": []})
    assert len(LocalAnnotator.load(make_task(), settings).annotate(["dull"])) == 1


def test_loading_opens_nothing_until_a_text_needs_the_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    annotator = LocalAnnotator.load(make_task(), _settings(tmp_path, tmp_path / "empty"))
    assert (annotator.model, annotator.revision) == ("tests/tiny-llama", "0" * 40)


def test_a_model_outside_the_cache_is_a_matter_of_settings_when_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="llambert models pull tests/tiny-llama"):
        LocalAnnotator.load(make_task(), _settings(tmp_path, None)).annotate(["dull"])


def test_a_folder_without_a_vocabulary_is_not_taken_for_one_that_knows_no_words(tmp_path: Path) -> None:
    folder = save_tiny_llama(tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    with pytest.raises(ConfigError, match="its tokenizer has no vocabulary"):
        LocalAnnotator.load(make_task(), _settings(tmp_path, folder)).annotate(["dull"])


def test_what_is_unpacked_may_be_read_by_whoever_may_read_its_configuration(tmp_path: Path) -> None:
    unpack(save_tiny_llama(tmp_path / "model"), tmp_path / "unpacked")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "unpacked").iterdir()}
    assert modes["model.safetensors"] == modes["config.json"]
    assert len(set(modes.values())) == 1


def test_a_model_that_this_user_may_not_read_is_refused_as_such(tmp_path: Path) -> None:
    weights = save_tiny_llama(tmp_path / "model") / "model.safetensors"
    weights.chmod(0)
    settings = _settings(tmp_path, weights.parent).model_dump(include={"lake", "model_paths"}, mode="json")
    look = "import json, sys; from llambert_etl.settings import Settings; Settings(**json.loads(sys.argv[1])).mirror"
    child = [sys.executable, "-c", f"{look}('tests/tiny-llama')", json.dumps(settings)]
    # To root every file is open, unless it goes without the right to override.
    bound = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"] if os.geteuid() == 0 else []
    done = subprocess.run([*bound, *child], capture_output=True, text=True)
    assert f"{weights} may not be read; let user {os.geteuid()} read it (chmod -R a+rX {weights.parent})" in done.stderr
