"""Chooses who answers a labelling question."""

from llambert_etl.config import LabellingTask
from llambert_etl.llm import Annotator
from llambert_etl.llm.local import LocalAnnotator
from llambert_etl.llm.recorded import RecordedAnnotator
from llambert_etl.llm.served import ServedAnnotator
from llambert_etl.settings import Settings


def open_annotator(task: LabellingTask, settings: Settings) -> Annotator:
    """Return the annotator that the task file asks for; raise ConfigError where it cannot be one."""
    recorded, server = task.annotator.recorded, task.annotator.server
    if recorded is not None:
        return RecordedAnnotator.load(task, recorded, settings)
    if server is not None:
        return ServedAnnotator.load(task, server, settings)
    return LocalAnnotator.load(task, settings)
