"""What a user writes: task files, checked as they are read."""

from llambert_etl.config.annotator import Annotator, Recorded
from llambert_etl.config.fields import LabelName, ModelId, Revision, Share, Strategy, StudyKind
from llambert_etl.config.files import TaskFiles, find_task, load_task, load_tasks
from llambert_etl.config.task import Encoder, Example, LabellingTask, Source, fingerprint

__all__ = [
    "Annotator",
    "Encoder",
    "Example",
    "LabelName",
    "LabellingTask",
    "ModelId",
    "Recorded",
    "Revision",
    "Share",
    "Source",
    "Strategy",
    "StudyKind",
    "TaskFiles",
    "find_task",
    "fingerprint",
    "load_task",
    "load_tasks",
]
