"""Fixtures that several of these tests share."""

from pathlib import Path

import pytest

from llambert_etl.llm.served import ServedAnnotator
from tests.fakes.llm import FakeLlm
from tests.given.served import served
from tests.models.llms import save_tiny_llama


@pytest.fixture
def annotator(llm: FakeLlm, tmp_path: Path) -> ServedAnnotator:
    return served(llm, tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny Llama's."""
    return save_tiny_llama(tmp_path_factory.mktemp("llama"))
