"""Look at the task files of an include folder: what is wrong in them, and what cannot run in this deployment."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from llambert_etl.config import FileSource, LabellingTask, load_tasks
from llambert_etl.config.kinds import key_of, names_in
from llambert_etl.config.sources import SOURCES
from llambert_etl.config.words import did_you_mean
from llambert_etl.errors import ConfigError
from llambert_etl.llm.prompts import render
from llambert_etl.partition import Partition
from llambert_etl.settings import Settings
from llambert_etl.sources.drops import open_drop
from llambert_etl.sources.location import files_location
from llambert_etl.studies.plan import load_plan

_ANY_DAY = Partition("2000-01-01")


class Report(NamedTuple):
    """`faults` and `warnings` are a line each. A warning is for what runs elsewhere, or later, but not here and now."""

    sound: list[LabellingTask]
    faults: list[str]
    warnings: list[str]


def validate(include: Path, settings: Settings | None) -> Report:
    """Read every task file, its prompt and its study plan. Without settings nothing is said of the deployment.

    Raise ConfigError where there are none.
    """
    found = load_tasks(include)
    if not found.tasks and not found.problems:
        raise ConfigError(f"{include / 'tasks'}: no task files there; write one with `llambert tasks new NAME`")
    report = Report([], [line for problem in found.problems.values() for line in problem.split("\n")], [])
    for task in found.tasks.values():
        faults = list(_failures(include, task, _rules(task, include)))
        report.faults.extend(faults)
        if not faults:
            report.sound.append(task)
        report.warnings.extend(_failures(include, task, _places(task, include, settings)))
    return report


_Look = tuple[str, Callable[[], object]]


def _failures(include: Path, task: LabellingTask, looks: Iterator[_Look]) -> Iterator[str]:
    path = include / "tasks" / f"{task.name}.yaml"
    for field, look in looks:
        try:
            look()
        except ConfigError as error:
            for line in str(error).split("\n"):
                yield f"{path}: {field}: {line}" if field else line


def _rules(task: LabellingTask, include: Path) -> Iterator[_Look]:
    """Yield what holds or does not in every deployment."""
    yield "prompt.template", partial(render, task, include)
    yield "", partial(load_plan, include, task)
    if isinstance(task.source, FileSource):
        yield "source.uri", partial(files_location, task.source.uri.replace("{partition}", _ANY_DAY))


def _places(task: LabellingTask, include: Path, settings: Settings | None) -> Iterator[_Look]:
    """Yield what a deployment has or lacks."""
    if task.gold:
        yield "gold", partial(_must_be_there, include / task.gold)
    if settings is None:
        return
    yield f"source.{key_of(type(task.source), SOURCES)}", partial(open_drop, task.source, _ANY_DAY, settings)
    look_up: dict[str, Callable[[str], object]] = {
        "connection": settings.connection,
        "server": settings.server,
        "model": settings.mirror,
        "channel": partial(_known_channel, settings),
    }
    for field, of, name in names_in(task):
        yield field, partial(look_up[of], name)


def _must_be_there(file: Path) -> None:
    if not file.exists():
        raise ConfigError(f"no file {file}; put it there, or remove the line and use `llambert gold import`")


def _known_channel(settings: Settings, name: str) -> None:
    if name not in settings.alerts:
        mend = did_you_mean(name, settings.alerts) or f"; add {name!r} and its webhook to LLAMBERT_ALERTS"
        raise ConfigError(f"the channels here are {sorted(settings.alerts)}{mend}")
