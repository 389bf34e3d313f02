"""new_task: write a task file and its prompts, to go on from."""

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from llambert_etl.config import load_task
from llambert_etl.errors import ConfigError
from llambert_etl.settings import Settings
from llambert_etl.sources.location import file_prefixes, files_location

_TEMPLATES = files("llambert_etl.config") / "new"
_PROMPTS = ("classify.j2", "classify_chat.j2")
_ANY_LABELS = ("yes=The text is about it. Say here what yes means.", "no=The text is about something else.")


def new_task(name: str, labels: Sequence[str], source: str | None, include: Path, settings: Settings | None) -> Path:
    """Return the new file. Raise ConfigError for one that is there already, and for what no task can have."""
    path = include / "tasks" / f"{name}.yaml"
    uri = source or _below_sources(name, settings)
    files_location(uri.replace("{partition}", "2000-01-01"))
    lines = "\n".join(
        f"  {_quoted(label)}: {_quoted(meaning)}" for label, meaning in map(_parted, labels or _ANY_LABELS)
    )
    text = (_TEMPLATES / "task.yaml").read_text(encoding="utf-8")
    for word, value in (("NAME", _quoted(name)), ("SOURCE", _quoted(uri)), ("LABELS", lines)):
        head, mark, tail = text.partition(f": {word}" if word != "LABELS" else f"\n{word}")
        text = f"{head}{mark.removesuffix(word)}{value}{tail}"
    _write(path, text)
    try:
        load_task(path)
    except ConfigError:
        path.unlink()
        raise
    for prompt in _PROMPTS:
        if not (include / "prompts" / prompt).exists():
            _write(include / "prompts" / prompt, (_TEMPLATES / prompt).read_text(encoding="utf-8"))
    return path


def _below_sources(name: str, settings: Settings | None) -> str:
    """Return an address that this deployment may read, where it says which those are."""
    places = [place for place in file_prefixes(settings.sources) if place.scheme == "s3"] if settings else []
    return f"{str(places[0]).rstrip('/') if places else 's3://landing'}/{name}/{{partition}}/*"


def _parted(label: str) -> tuple[str, str]:
    name, equals, meaning = label.partition("=")
    if not equals or not meaning.strip():
        raise ConfigError(f'--label {label!r}: write NAME=MEANING, such as --label invoice="It is about an invoice."')
    return name.strip(), meaning.strip()


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{str(path)!r} is there already; choose another name, or remove it first") from None
