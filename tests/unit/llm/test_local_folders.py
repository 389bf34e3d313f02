"""Folders that LocalAnnotator is to load: what is absent, wrong or unsafe in them is refused before it is used."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llambert_etl.errors import ConfigError
from llambert_etl.llm.local import LocalAnnotator
from llambert_etl.llm.weights import unpack
from tests.given.local import local_settings
from tests.given.tasks import make_task
from tests.models.llms import save_tiny_llama


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
    assert LocalAnnotator.load(make_task(), local_settings(tmp_path, folder)).annotate(["dull"])[0].label
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
        LocalAnnotator.load(make_task(), local_settings(tmp_path, folder)).annotate(["dull"])
    assert not marker.exists()


def test_pickled_weights_are_refused_and_never_opened(tmp_path: Path) -> None:
    folder, marker = save_tiny_llama(tmp_path / "model"), tmp_path / "ran"
    (folder / "model.safetensors").unlink()
    # A pickle that creates the marker when it is read: `c` names the function, `R` calls it.
    trap = f"cbuiltins\nopen\n(S{str(marker)!r}\nS'w'\ntR.".encode()
    (folder / "pytorch_model.bin").write_bytes(trap)
    with pytest.raises(ConfigError, match="safetensors"):
        LocalAnnotator.load(make_task(), local_settings(tmp_path, folder)).annotate(["dull"])
    assert not marker.exists()


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_an_incomplete_folder_is_refused_with_its_name(tmp_path: Path, missing: str) -> None:
    folder = save_tiny_llama(tmp_path / "model")
    (folder / missing).unlink()
    with pytest.raises(ConfigError, match=r"tests/tiny-llama.*does not open"):
        LocalAnnotator.load(make_task(), local_settings(tmp_path, folder)).annotate(["dull"])


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
        LocalAnnotator.load(make_task(), local_settings(tmp_path, folder)).annotate(["dull"])


def test_half_a_weights_file_is_refused(tmp_path: Path) -> None:
    folder = save_tiny_llama(tmp_path / "model")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ConfigError, match="does not open"):
        LocalAnnotator.load(make_task(), local_settings(tmp_path, folder)).annotate(["dull"])


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"not a model")
    with pytest.raises(ConfigError, match=r"model\.gguf does not open"):
        LocalAnnotator.load(make_task(), local_settings(tmp_path, path)).annotate(["dull"])


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
    settings = local_settings(tmp_path, tmp_path).model_copy(update=changes)
    with pytest.raises(ConfigError, match=message):
        LocalAnnotator.load(make_task(), settings)


def test_a_mirrored_model_needs_no_allowed_organisation(folder: Path, tmp_path: Path) -> None:
    settings = local_settings(tmp_path, folder).model_copy(update={"model_orgs": []})
    assert len(LocalAnnotator.load(make_task(), settings).annotate(["dull"])) == 1


def test_loading_opens_nothing_until_a_text_needs_the_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    annotator = LocalAnnotator.load(make_task(), local_settings(tmp_path, tmp_path / "empty"))
    assert (annotator.model, annotator.revision) == ("tests/tiny-llama", "0" * 40)


def test_a_model_outside_the_cache_is_a_matter_of_settings_when_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="llambert models pull tests/tiny-llama"):
        LocalAnnotator.load(make_task(), local_settings(tmp_path, None)).annotate(["dull"])


def test_a_folder_without_a_vocabulary_is_not_taken_for_one_that_knows_no_words(tmp_path: Path) -> None:
    folder = save_tiny_llama(tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    with pytest.raises(ConfigError, match="its tokenizer has no vocabulary"):
        LocalAnnotator.load(make_task(), local_settings(tmp_path, folder)).annotate(["dull"])


def test_what_is_unpacked_may_be_read_by_whoever_may_read_its_configuration(tmp_path: Path) -> None:
    unpack(save_tiny_llama(tmp_path / "model"), tmp_path / "unpacked")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "unpacked").iterdir()}
    assert modes["model.safetensors"] == modes["config.json"]
    assert len(set(modes.values())) == 1


def test_a_model_that_this_user_may_not_read_is_refused_as_such(tmp_path: Path) -> None:
    weights = save_tiny_llama(tmp_path / "model") / "model.safetensors"
    weights.chmod(0)
    settings = local_settings(tmp_path, weights.parent).model_dump(include={"lake", "model_paths"}, mode="json")
    look = "import json, sys; from llambert_etl.settings import Settings; Settings(**json.loads(sys.argv[1])).mirror"
    child = [sys.executable, "-c", f"{look}('tests/tiny-llama')", json.dumps(settings)]
    # To root every file is open, unless it goes without the right to override.
    bound = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"] if os.geteuid() == 0 else []
    done = subprocess.run([*bound, *child], capture_output=True, text=True)
    assert f"{weights} may not be read; let user {os.geteuid()} read it (chmod -R a+rX {weights.parent})" in done.stderr
