"""Reads a YAML file that people write into a model that checks it, and says what is wrong where they can mend it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from llambert_etl.config.connections import without_secrets
from llambert_etl.config.fields import TAG
from llambert_etl.config.kinds import models_in
from llambert_etl.config.words import choices, did_you_mean, in_our_words, syntax
from llambert_etl.errors import ConfigError

MAX_FILE_BYTES = 1_000_000

Model = TypeVar("Model", bound=BaseModel)


def read_yaml(path: Path, model: type[Model]) -> Model:
    """Read one file. Raise ConfigError with a line for each fault: the file, the field, the rule and the value."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_FILE_BYTES} bytes; such a file is a page, not a data set")
        raw = yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {syntax(error)}") from error
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:  # PyYAML takes `0x_` for a number
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must be a mapping of `key: value` lines, found {type(raw).__name__}")
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {fault}" for fault in _faults(error, model))) from error


class _PlainLoader(yaml.SafeLoader):
    """Text, numbers, true and false, null, lists and maps; what looks like a date is text.

    YAML's own rule says that keys are unique; PyYAML lets the last one win without a word.
    """

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse aliases, by which a few lines grow without bound, tags, whose constructors fail in many ways, NUL."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if event.anchor is not None or getattr(event, "tag", None) is not None:
            said = "anchors (&), aliases (*) and tags (!) are not taken; write the value itself, text in quotes"
            raise yaml.composer.ComposerError(None, None, said, event.start_mark)
        if "\0" in getattr(event, "value", ""):
            # PostgreSQL keeps no text with it, so that one such file would stop Airflow's Dag processor for all others.
            raise yaml.composer.ComposerError(None, None, "text must not hold a NUL", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} appears twice", key_node.start_mark)
            seen.add(key if isinstance(key, str) else repr(key))
        return super().construct_mapping(node, deep)


def _faults(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    for fault in error.errors(include_url=False):
        where = ".".join(str(part) for part in fault["loc"] if not _is_tag(part))
        yield f"{where}: {_fault(fault, model)}" if where else _fault(fault, model)


def _fault(fault: ErrorDetails, model: type[BaseModel]) -> str:
    if fault["type"] == "extra_forbidden":
        known = _fields_at(model, fault["loc"][:-1])
        mend = did_you_mean(fault["loc"][-1], known) or f"; remove it, the fields here are {', '.join(known)}"
        return f"unknown field{mend}"
    value = "" if isinstance(fault["input"], dict) else f" (found {without_secrets(repr(fault['input'])):.80})"
    return in_our_words(fault) + did_you_mean(fault["input"], choices(fault)) + value


def _fields_at(model: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """Return the names of the fields of the part of a model that a fault's place leads to."""
    models = [model]
    for part in place:
        if _is_tag(part):
            models = [each for each in models if part == each.__name__ + TAG] or models
        elif not isinstance(part, int):
            models = [
                inner for each in models if part in each.model_fields for inner in models_in(each.model_fields[part])
            ]
    return list(dict.fromkeys(name for each in models for name in each.model_fields))


def _is_tag(part: int | str) -> bool:
    return str(part).endswith(TAG)
