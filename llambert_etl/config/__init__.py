"""What a user writes: task files, checked as they are read."""

from llambert_etl.config.annotator import Llm
from llambert_etl.config.fields import LabelName, ModelId, Revision, Share, Strategy, StudyKind
from llambert_etl.config.files import TaskFiles, find_task, load_task, load_tasks
from llambert_etl.config.sources import FileSource, Source
from llambert_etl.config.task import Example, LabellingTask, Recipe, fingerprint

__all__ = [
    "Example",
    "FileSource",
    "LabelName",
    "LabellingTask",
    "Llm",
    "ModelId",
    "Recipe",
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
