"""Write docs/reference.md from the code: `python -m tests.reference > docs/reference.md`."""

import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from llambert_etl.config import LabellingTask
from llambert_etl.config.kinds import models_in
from llambert_etl.config.pods import Kubernetes
from llambert_etl.schemas import TABLES
from llambert_etl.settings import Price, Server, Settings
from llambert_etl.sources.readers import SUFFIXES
from llambert_etl.sources.records import Reason
from llambert_etl.studies.plan import StudyPlan

_HEAD = """# Reference

Written by `python -m tests.reference` from the code: every setting, every field of a task file and of a study plan,
the tables, what is read and why rows are refused.
"""
_SETTINGS = """## Settings

Variables of the deployment. A list or a mapping is written as JSON; an entry of a mapping can also be a variable of its
own, such as `LLAMBERT_CONNECTIONS__<NAME>`. Secrets are best given as files of these names in `LLAMBERT_SECRETS_DIR`.
"""
_TASKS = """## Task files

`include/tasks/<name>.yaml`. A file with a field that is not named here is refused. Its YAML is plain: text, numbers,
true and false, lists and maps. What looks like a date is text; tags, anchors and aliases are refused.
"""
_PLANS = """## Study plans

`include/studies/<task>.yaml`; all of it may be left out.
"""
_TABLES = """## Tables

Each has the columns `task` and `partition` too, by which its files are laid out. What is deleted, and when, stands in
the [runbook](runbook.md#what-is-deleted-and-when).
"""
_LAYOUT = ("task", "partition")
_LIMITS = {
    "exclusiveMinimum": "above",
    "minimum": "at least",
    "exclusiveMaximum": "below",
    "maximum": "at most",
    "maxLength": "of at most",
}

Schema = Mapping[str, Any]


def page() -> str:
    """Return the whole page."""
    task, plan = parts(LabellingTask), parts(StudyPlan)
    blocks = [_HEAD, _SETTINGS, _fields(Settings, "LLAMBERT_")]
    blocks += [_part(Kubernetes, "LLAMBERT_KUBERNETES__"), _part(Server, "LLAMBERT_SERVERS__<NAME>__"), _part(Price)]
    blocks += [_TASKS, _fields(LabellingTask), *(_part(part) for part in task[1:])]
    blocks += [_PLANS, _fields(StudyPlan), *(_part(part) for part in plan[1:] if part not in task)]
    return "\n".join([*blocks, *_tables(), *_landing()])


def parts(model: type[BaseModel]) -> list[type[BaseModel]]:
    """Return the models that a model is made of, itself first."""
    return list(dict.fromkeys(_models(model)))


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for inner in models_in(field):
            yield from _models(inner)


def _part(model: type[BaseModel], prefix: str = "") -> str:
    return f"### {model.__name__}\n\n{inspect.getdoc(model)}\n\n{_fields(model, prefix)}"


def _fields(model: type[BaseModel], prefix: str = "") -> str:
    if not model.model_fields:
        return ""
    schemas = model.model_json_schema()["properties"]
    rows = []
    for name, field in model.model_fields.items():
        secret = " **(secret)**" if "writeOnly" in json.dumps(schemas[name]) else ""
        shown = prefix + name.upper() if prefix else name
        rows.append((f"`{shown}`", _kind(schemas[name]), _default(field), f"{field.description}{secret}"))
    return _table(("name", "value", "default", ""), rows)


def _kind(schema: Schema) -> str:
    """Return a JSON schema in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(_kind(choice) for choice in choices if choice.get("type") != "null")
    if values := schema.get("enum") or [schema[name] for name in ("const",) if name in schema]:
        return ", ".join(f"`{value}`" for value in values)
    if schema["type"] == "array":
        return f"list of {_kind(schema['items'])}"
    if schema["type"] == "object":
        inner = schema.get("additionalProperties") or next(iter(schema["patternProperties"].values()))
        return f"mapping of names to {_kind(inner)}"
    limits = [f"{word} {schema[name]:,.10g}" for name, word in _LIMITS.items() if name in schema]
    pattern = [f"`{schema['pattern']}`"] if "pattern" in schema else []
    return " ".join([{"string": "text"}.get(schema["type"], schema["type"]), ", ".join(limits + pattern)]).strip()


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if field.is_required():
        return "required"
    if default is None or default == "" or isinstance(default, BaseModel):
        return ""
    return f"`{default if isinstance(default, str | Path) else json.dumps(default)}`"


def _tables() -> Iterator[str]:
    yield _TABLES
    for name, table in TABLES.items():
        key = ", ".join(f"`{column}`" for column in table.key)
        yield f"### Table {name}\n\n{table.about} Key: {key}, unique in its {table.scope}.\n"
        columns = [(f"`{field.name}`", f"`{field.type}`") for field in table.schema if field.name not in _LAYOUT]
        yield _table(("column", "type"), columns)


def _landing() -> Iterator[str]:
    names = ", ".join(f"`{suffix}`" for suffix in SUFFIXES)
    yield "## Landing files\n"
    yield f"Files are read whose names end in {names}, in any case.\nAny other is refused, as one row.\n"
    yield "## Reasons of refusal\n"
    yield _table(("reason", "what it means"), [(f"`{reason}`", reason.meaning) for reason in Reason])


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    print(page(), end="")
