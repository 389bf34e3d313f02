"""Models that no device holds whole: their layers on disk, which changes nothing."""

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
from llambert_etl.llm.weights import open_model
from llambert_etl.settings import Settings, load_settings
from tests.models import save_tiny_llama2
from tests.tasks import make_task, three_label_task

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
