"""Chooses who answers a labelling question: a line for each kind of `config.annotator`."""

from collections.abc import Callable
from typing import Final

from llambert_etl.config import LabellingTask, Llm
from llambert_etl.config.annotator import LocalLlm, RecordedLlm, ServedLlm
from llambert_etl.llm import Annotator
from llambert_etl.llm.local import LocalAnnotator
from llambert_etl.llm.recorded import RecordedAnnotator
from llambert_etl.llm.served import ServedAnnotator
from llambert_etl.settings import Settings

OPENERS: Final[dict[type[Llm], Callable[[LabellingTask, Settings], Annotator]]] = {
    LocalLlm: LocalAnnotator.load,
    ServedLlm: ServedAnnotator.load,
    RecordedLlm: RecordedAnnotator.load,
}


def open_annotator(task: LabellingTask, settings: Settings) -> Annotator:
    """Return the annotator that the task file asks for; raise ConfigError where it cannot be one."""
    return OPENERS[type(task.annotator)](task, settings)
