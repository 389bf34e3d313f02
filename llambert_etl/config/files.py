"""Finds and reads the task files of an include folder."""

import re
from pathlib import Path
from typing import NamedTuple

from llambert_etl.config.task import LabellingTask
from llambert_etl.config.words import did_you_mean
from llambert_etl.config.yaml_files import read_yaml
from llambert_etl.errors import ConfigError


class TaskFiles(NamedTuple):
    """Every task that loads, and one message for each file that does not."""

    tasks: dict[str, LabellingTask]
    problems: dict[Path, str]


def load_task(path: Path) -> LabellingTask:
    """Read one task file. Raise ConfigError naming the file, the field, the value and the rule."""
    if path.suffix != ".yaml":
        raise ConfigError(f"{path}: steps look for {path.stem}.yaml; rename the file")
    task = read_yaml(path, LabellingTask)
    if task.name != path.stem:
        raise ConfigError(f"{path}: name: {task.name!r} must equal the file's name {path.stem!r}; rename one of them")
    return task


def load_tasks(include: Path) -> TaskFiles:
    """Read every task file in include/tasks. A wrong file becomes a problem and never hides the others."""
    tasks, problems = {}, {}
    for path in sorted((include / "tasks").glob("*.y*ml")):
        try:
            task = load_task(path)
        except ConfigError as error:
            problems[path] = str(error)
        else:
            tasks[task.name] = task
    return TaskFiles(tasks, problems)


def find_task(include: Path, name: str) -> LabellingTask:
    """Return the task of that name; raise ConfigError with the known names otherwise."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
        raise ConfigError(f"task {name!r}: a task name is lower-case letters, digits and underscores")
    path = include / "tasks" / f"{name}.yaml"
    if not path.exists():
        known = sorted(found.stem for found in (include / "tasks").glob("*.yaml"))
        raise ConfigError(f"task {name!r}: no file {path}{did_you_mean(name, known)}; the tasks here are {known}")
    return load_task(path)
