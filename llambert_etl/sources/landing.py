"""Brings a file of this machine to where a day's files are looked for."""

import contextlib
import shutil
import uuid
from pathlib import Path

from llambert_etl.config import FileSource, LabellingTask
from llambert_etl.errors import ConfigError
from llambert_etl.partition import Partition
from llambert_etl.settings import Settings
from llambert_etl.sources.location import Location, allowed_location, is_safe_key
from llambert_etl.sources.s3 import Bucket


def put(file: Path, task: LabellingTask, partition: Partition, settings: Settings) -> str:
    """Copy a file there and return its address; nobody sees half of it. Raise ConfigError where it has no place."""
    if not file.is_file():
        raise ConfigError(f"{str(file)!r}: {'is a folder; name its files' if file.is_dir() else 'no such file'}")
    pattern = _pattern(task, partition, settings)
    parts = (*pattern.folder, file.name)
    key = "/".join(parts)
    if not is_safe_key(key) or set(file.name) & set("*?") or not pattern.matches(key):
        raise ConfigError(
            f"{file.name!r} would not be read: files are looked for at {str(pattern)!r}, and their names hold no '*', "
            "'?', '%' or control characters; give the file another name, or mend source.uri"
        )
    target = Location(pattern.bucket, parts)
    if target.bucket is None:
        _copy(file, Path(str(target)), pattern)
    else:
        Bucket(target.bucket, settings).put(file, key)
    return str(target)


def _pattern(task: LabellingTask, partition: Partition, settings: Settings) -> Location:
    if not isinstance(task.source, FileSource):
        raise ConfigError(f"task {task.name!r}: its documents do not come from files, so it takes none")
    pattern = allowed_location(task.source.uri.replace("{partition}", partition), settings.sources)
    if pattern.scheme != "s3":
        raise ConfigError(f"task {task.name!r}: its documents come from the hub, which takes no files from here")
    return pattern


def _copy(file: Path, target: Path, pattern: Location) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.parent / f".{uuid.uuid4().hex}.part"
    if pattern.matches(str(part)[1:]):
        part = part.parent.parent / part.name  # a folder higher no name matches
    try:
        shutil.copyfile(file, part)
        part.replace(target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
