"""LocalAnnotator: a causal LM through transformers, on this machine's processor or GPU."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from llambert_etl.config import LabellingTask
from llambert_etl.llm import Reply
from llambert_etl.llm.prompts import Chat, Completion, render
from llambert_etl.settings import Settings

if TYPE_CHECKING:
    from llambert_etl.llm.local_model import LocalModel


class LocalAnnotator:
    """Answers with `score` or `generate`. The model is opened, and torch imported, when the first text needs it."""

    batch_size = 256

    def __init__(self, task: LabellingTask, settings: Settings, prompt: Chat | Completion) -> None:
        self._task, self._settings, self._prompt = task, settings, prompt
        self.model, self.revision = task.annotator.model, task.annotator.revision

    @classmethod
    def load(cls, task: LabellingTask, settings: Settings) -> "LocalAnnotator":
        """Check what needs no open model: raise ConfigError for a wrong template, organisation or mirror."""
        settings.mirror(task.annotator.model)
        return cls(task, settings, render(task, settings.include))

    def annotate(self, texts: Sequence[str]) -> list[Reply]:
        """Return one reply for each text, in order."""
        return self.opened.annotate(texts)

    @cached_property
    def opened(self) -> "LocalModel":
        from llambert_etl.llm.local_model import LocalModel

        return LocalModel(self._task, self._settings, self._prompt)
