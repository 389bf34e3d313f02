"""Reads a YAML file that people write into a model that checks it, and says what is wrong where they can mend it."""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from llambert_etl.config.connections import FILES, TABLE, without_secrets
from llambert_etl.errors import ConfigError

MAX_FILE_BYTES = 1_000_000

Model = TypeVar("Model", bound=BaseModel)


def read_yaml(path: Path, model: type[Model]) -> Model:
    """Read one file. Raise ConfigError naming the file, the field, the value and the rule."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_FILE_BYTES} bytes; such a file is a page, not a data set")
        raw = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must be a mapping of `key: value` lines, found {type(raw).__name__}")
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_explain(error)}") from error


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's own rule says that keys are unique; PyYAML lets the last one win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} appears twice", key_node.start_mark)
            seen.add(key if isinstance(key, str) else repr(key))
        return super().construct_mapping(node, deep)


def _explain(error: ValidationError) -> str:
    lines = []
    for fault in error.errors(include_url=False):
        where = ".".join(str(part) for part in fault["loc"] if part not in (FILES, TABLE))
        value = "" if isinstance(fault["input"], dict) else f" (found {without_secrets(repr(fault['input'])):.80})"
        message = fault["msg"].removeprefix("Value error, ")
        hint = "; remove it or mend its spelling" if fault["type"] == "extra_forbidden" else ""
        lines.append(f"{where}: {message}{value}{hint}" if where else message)
    return "; ".join(lines)
