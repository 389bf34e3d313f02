"""The LLM side: prompts, annotators and the parsing of replies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from llambert_etl.errors import ConfigError, TransientError
from llambert_etl.schemas import AnnotationStatus


@dataclass(frozen=True)
class Reply:
    """One document's answer.

    `raw` is what the model said (scoring: the label it found most likely), `tokens` what prompt and answer count
    together, `answer_tokens` what the answer counts. `reason` says why there is no label; with a label it can only be
    `truncated`: the model saw no more than the document's beginning. `answered_by` is whom a server says it was, and
    without which fields it had to be asked.
    """

    label: str | None
    probabilities: dict[str, float] | None
    raw: str
    status: AnnotationStatus
    reason: str | None
    tokens: int
    answer_tokens: int = 0
    answered_by: str | None = None

    @property
    def is_answer(self) -> bool:
        return self.status != AnnotationStatus.FAILED


class HalfAnsweredError(TransientError):
    """An annotator ceased to answer half-way. `replies` has one for each text all the same, for some are paid."""

    def __init__(self, message: str, replies: list[Reply]) -> None:
        super().__init__(message)
        self.replies = replies


class HalfRefusedError(ConfigError):
    """An annotator refused us half-way, and would again. `replies` has one for each text, as in HalfAnsweredError."""

    def __init__(self, message: str, replies: list[Reply]) -> None:
        super().__init__(message)
        self.replies = replies


class Annotator(Protocol):
    """What answers a labelling question. `batch_size` is how many documents one call should be given."""

    @property
    def model(self) -> str: ...

    @property
    def revision(self) -> str: ...

    @property
    def batch_size(self) -> int: ...

    def annotate(self, texts: Sequence[str]) -> list[Reply]:
        """Return one reply for each text, in order.

        Raise HalfAnsweredError or HalfRefusedError to have those kept that were given before.
        """
        ...
