"""An annotator: lists of words. Nobody is asked, and nothing is loaded."""

from collections.abc import Sequence
from typing import cast

from pydantic import Field

from llambert_etl.config import LabellingTask, LabelName, Llm
from llambert_etl.llm import Reply
from llambert_etl.llm.parsing import read_reply
from llambert_etl.settings import Settings


class WordsLlm(Llm):
    """Words that speak for a label: a text has the label of which it holds most. `revision` names the lists."""

    words: dict[LabelName, list[str]] = Field(description="label -> its words, in lower case")


class WordsAnnotator:
    """Answers with the label for which most words speak; of several of those with all of them, which is no label."""

    batch_size = 4096

    def __init__(self, task: LabellingTask, words: dict[str, list[str]]) -> None:
        self._task, self._words = task, words
        self.model, self.revision = task.annotator.model, task.annotator.revision

    @classmethod
    def load(cls, task: LabellingTask, settings: Settings) -> "WordsAnnotator":
        return cls(task, cast(WordsLlm, task.annotator).words)

    def annotate(self, texts: Sequence[str]) -> list[Reply]:
        return [read_reply(self._task, self._said(text), 0) for text in texts]

    def _said(self, text: str) -> str:
        spoken = text.lower().split()
        votes = {label: sum(spoken.count(word) for word in words) for label, words in self._words.items()}
        return ", ".join(label for label, count in votes.items() if 0 < count == max(votes.values()))
