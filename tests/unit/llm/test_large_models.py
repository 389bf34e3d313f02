"""Models that no device holds whole: their layers on disk or packed into few bits, and what that may change."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from llambert_etl.config import LabellingTask
from llambert_etl.errors import ConfigError
from llambert_etl.llm import Reply
from llambert_etl.llm.local import LocalAnnotator
from llambert_etl.llm.placement import changes_in_use
from llambert_etl.llm.prompts import prompt_hash
from llambert_etl.llm.weights import open_model
from llambert_etl.settings import Settings, load_settings
from tests.given.tasks import make_task, three_label_task
from tests.models.llms import save_tiny_llama2

TEXTS = ["a warm film", "dull", "far too long and clumsy", "a match of physics and profit " * 3, "goal"] * 4
# Most of the tiny model's 0.3 MB in bf16 has no room here, and none of it does in the other.
LIMITS = {"some layers on disk": "120KiB", "all layers on disk": "1B"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama2(tmp_path_factory.mktemp("llama2"))


@pytest.fixture
def four_threads() -> Iterator[None]:
    cores = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(cores)


def _settings(tmp_path: Path, model: Path, **memory: str) -> Settings:
    (tmp_path / "prompts").mkdir(exist_ok=True)
    (tmp_path / "prompts" / "movie_sentiment.j2").write_text(
        "[INST] One of: {{ labels | join(' ') }}. {{ text }} [/INST]"
    )
    return Settings(lake="l", include=tmp_path, model_paths={"tests/tiny-llama": model}, llm_memory=memory)


def _replies(task: LabellingTask, settings: Settings) -> list[Reply]:
    return LocalAnnotator.load(task, settings).annotate(TEXTS)


def _on_disk(model: PreTrainedModel) -> float:
    return sum(weight.is_meta for weight in model.parameters()) / sum(1 for _ in model.parameters())


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize("tied", [False, True], ids=["own head", "tied head"])
@pytest.mark.parametrize("task", [make_task(), three_label_task(), make_task(annotator={"method": "generate"})])
def test_layers_on_disk_change_no_probability_and_no_reply(
    tmp_path: Path, task: LabellingTask, tied: bool, limit: str
) -> None:
    folder = save_tiny_llama2(tmp_path / "model", tied=tied)
    spread = _settings(tmp_path, folder, cpu=limit)
    assert 0.3 < _on_disk(open_model(task.annotator, spread).model) <= 1
    assert _replies(task, spread) == _replies(task, _settings(tmp_path, folder))


def test_a_model_that_fits_lies_in_memory(tmp_path: Path, folder: Path) -> None:
    assert _on_disk(open_model(make_task().annotator, _settings(tmp_path, folder, cpu="1GiB")).model) == 0


def test_a_gpu_that_is_not_there_is_a_matter_of_settings(tmp_path: Path, folder: Path) -> None:
    settings = _settings(tmp_path, folder, **{"63": "70GiB"})
    with pytest.raises(ConfigError, match="LLAMBERT_LLM_MEMORY: no GPU 63"):
        _replies(make_task(), settings)


def test_memory_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMBERT_LAKE", "lake")
    monkeypatch.setenv("LLAMBERT_LLM_MEMORY", json.dumps({"0": "70GiB", "1": "70GiB", "cpu": "200GiB"}))
    assert load_settings().llm_memory == {0: 70 * 2**30, 1: 70 * 2**30, "cpu": 200 * 2**30}
    for wrong in ({"gpu": "70GiB"}, {"-1": "70GiB"}, {"0": "much"}):
        monkeypatch.setenv("LLAMBERT_LLM_MEMORY", json.dumps(wrong))
        with pytest.raises(ConfigError, match="LLAMBERT_LLM_MEMORY"):
            load_settings()


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize("method", ["score", "generate"])
@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_quantized_weights_answer_always_alike(
    tmp_path: Path, folder: Path, quantization: str, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    task = make_task(annotator={"quantization": quantization, "method": method})
    settings = _settings(tmp_path, folder)
    replies = _replies(task, settings)
    assert replies == _replies(task, settings)
    assert replies != _replies(make_task(annotator={"method": method}), settings)
    assert "MatMul8bitLt" not in caplog.text  # a line for each product would bury all others


@pytest.mark.parametrize(("quantization", "share"), [("int8", 0.8), ("nf4", 0.6)])
def test_quantized_weights_are_smaller(tmp_path: Path, folder: Path, quantization: str, share: float) -> None:
    settings = _settings(tmp_path, folder)
    whole, packed = (
        open_model(make_task(annotator={"quantization": bits}).annotator, settings).model.get_memory_footprint()
        for bits in (None, quantization)
    )
    assert packed < share * whole


def test_quantized_weights_that_do_not_fit_are_refused(tmp_path: Path, folder: Path) -> None:
    task = make_task(annotator={"quantization": "nf4"})
    with pytest.raises(ConfigError, match="quantized weights .* must fit"):
        _replies(task, _settings(tmp_path, folder, cpu="1B"))


@pytest.mark.parametrize(
    ("quantization", "memory", "alone"), [(None, {}, False), (None, {"cpu": "1B"}, True), ("int8", {}, True)]
)
def test_passes_run_beside_each_other_only_where_they_leave_the_model_as_it_is(
    tmp_path: Path, folder: Path, quantization: str | None, memory: dict[str, str], alone: bool
) -> None:
    annotator = make_task(annotator={"quantization": quantization}).annotator
    assert changes_in_use(open_model(annotator, _settings(tmp_path, folder, **memory)).model) is alone


def test_a_gguf_file_is_not_quantized_again(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    task = make_task(annotator={"quantization": "int8"})
    with pytest.raises(ConfigError, match=r"annotator\.quantization: .*model\.gguf is a GGUF file"):
        _replies(task, _settings(tmp_path, tmp_path / "model.gguf"))


def test_quantization_is_part_of_what_is_asked(tmp_path: Path, folder: Path) -> None:
    include = _settings(tmp_path, folder).include
    hashes = {prompt_hash(make_task(annotator={"quantization": bits}), include) for bits in (None, "int8", "nf4")}
    assert len(hashes) == 3
