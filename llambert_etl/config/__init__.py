"""What a user writes: task files, checked as they are read."""

from llambert_etl.config.files import TaskFiles, find_task, load_task, load_tasks
from llambert_etl.config.task import (
    Annotator,
    Encoder,
    Example,
    LabellingTask,
    LabelName,
    ModelId,
    Recorded,
    Revision,
    Share,
    Source,
    Strategy,
    StudyKind,
    fingerprint,
)

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
