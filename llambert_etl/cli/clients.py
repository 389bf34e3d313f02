"""Builds what commands work with, once a process: settings, the task, the lake, the registry."""

import functools
import inspect
import logging
import os
import re
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, TypeVar

import typer

from llambert_etl.cli.options import Ahead, Day, Expect, RunName, Task, command, done
from llambert_etl.cli.outcome import set_up_logging
from llambert_etl.config import LabellingTask, find_task
from llambert_etl.config.words import did_you_mean
from llambert_etl.errors import ConfigError
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition, parse_partition, refuse_ahead, today
from llambert_etl.run import Run
from llambert_etl.settings import Settings, load_settings

if TYPE_CHECKING:
    from llambert_etl.annotation.backlog import Backlog
    from llambert_etl.llm import Annotator
    from llambert_etl.llm.served import ServedAnnotator
    from llambert_etl.registry import Registry


logger = logging.getLogger(__name__)

Given = ParamSpec("Given")
Told = TypeVar("Told", bound=Manifest | None)

# What others than a step read.
_OTHERS = {"LLAMBERT_BENCH_DATA", "LLAMBERT_STACK"}
_OF_SERVICE = re.compile(r"_(SERVICE_(HOST|PORT)|PORT)(_|$)")


class Clients:
    """Each client is made when a command first asks for it, so a command pays only for what it uses."""

    @cached_property
    def settings(self) -> Settings:
        settings = load_settings()
        set_up_logging(settings.log)
        for name in unknown_variables(os.environ):
            known = [f"LLAMBERT_{field.upper()}" for field in Settings.model_fields]
            logger.warning("%s: no setting has this name, so it is not read%s", name, did_you_mean(name, known))
        return settings

    @cached_property
    def lake(self) -> Lake:
        lake = Lake.from_settings(self.settings)
        lake.create_tables()
        return lake

    @cached_property
    def registry(self) -> "Registry":
        from llambert_etl.registry import Registry

        return Registry.from_settings(self.settings)

    def day(self, partition: str, ahead: bool) -> Partition:
        """Return the day that an option names. Raise ConfigError for one after today, unless it is allowed."""
        day = parse_partition(partition)
        if not (ahead or self.settings.allow_future):
            refuse_ahead(day, today())
        return day

    def task(self, name: str) -> LabellingTask:
        return find_task(self.settings.include, name)

    def prompt_hash(self, task: LabellingTask) -> str:
        from llambert_etl.llm.prompts import prompt_hash

        return prompt_hash(task, self.settings.include)


def unknown_variables(names: Iterable[str]) -> list[str]:
    """Return those that look like settings and are none. A cluster makes some for each service; they stay out."""
    known = {f"LLAMBERT_{field.upper()}" for field in Settings.model_fields} | _OTHERS
    return sorted(
        name
        for name in names
        if name.startswith("LLAMBERT_") and name.partition("__")[0] not in known and not _OF_SERVICE.search(name)
    )


class Opened(NamedTuple):
    """What every step is given: its run and the clients, and whether days ahead are allowed."""

    run: Run
    clients: Clients
    ahead: bool

    def anew(self, day: Partition | None = None) -> "Opened":
        """Return what the next step of this run is given, of another day where one is named: its clock begins now."""
        return self._replace(run=Run(self.run.task, day or self.run.partition, self.run.name))


def step_command(
    app: typer.Typer, example: str, panel: str | None = None, name: str | None = None
) -> Callable[[Callable[Given, Told]], Callable[Given, Told]]:
    """Make a function of `opened` and options of its own a command, which has the options of every step too.

    The manifest that it returns, if it does, is its last word, called by another command too.
    """

    def register(function: Callable[Given, Told]) -> Callable[Given, Told]:
        opened, *own = inspect.signature(function, eval_str=True).parameters.values()

        def step(*given: Given.args, **options: Given.kwargs) -> Told:
            if (manifest := function(*given, **options)) is not None:
                done(manifest)
            return manifest

        @functools.wraps(function)
        def run(task: str, partition: str, run: str, expect: str | None, ahead: bool, **given: object) -> None:
            step(open_step(task, partition, run, expect, ahead), **given)  # type: ignore[arg-type]  # parsed by typer

        each = inspect.signature(open_step, eval_str=True).parameters.values()
        shown = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in (*each, *own)]
        vars(run)["__signature__"] = inspect.Signature(shown)  # what typer reads
        run.__annotations__ = {option.name: option.annotation for option in shown}
        command(app, example, panel, name)(run)
        return step

    return register


def open_step(task: Task, partition: Day, run: RunName = "cli", expect: Expect = None, ahead: Ahead = False) -> Opened:
    """Parse a step's options. Raise ConfigError where the task file here is not the one that the caller read."""
    clients = Clients()
    day = clients.day(partition, ahead)
    found = clients.task(task)
    if expect not in (None, found.config_hash):
        raise ConfigError(
            f"task {task!r}: --expect {expect}, but the file in {clients.settings.include} has the hash "
            f"{found.config_hash}: scheduler and worker must have the same task files; deploy them again, then rerun"
        )
    return Opened(Run(found, day, run), clients, ahead)


def open_backlog(
    opened: Opened,
    annotator: "Annotator",
    *,
    sample: int | None,
    step: str,
    batched: bool,
    retry_failed: bool = False,
) -> "Backlog":
    """Read what is left to ask of an annotator. Raise ConfigError for a budget that cannot be kept."""
    from llambert_etl.annotation.backlog import Backlog
    from llambert_etl.llm.spending import Spending

    run, clients = opened.run, opened.clients
    return Backlog(
        run,
        lake=clients.lake,
        annotator=annotator,
        prompt_hash=clients.prompt_hash(run.task),
        spending=Spending.load(run.task, clients.settings, batched=batched),
        sample=sample,
        step=step,
        retry_failed=retry_failed,
    )


def open_batch(
    opened: Opened, *, sample: int | None, step: str = "annotate", retry_failed: bool = False
) -> tuple["Backlog", "ServedAnnotator"]:
    """Read what is left to ask of the task's server. Raise ConfigError where the task asks none."""
    from llambert_etl.llm.served import ServedAnnotator

    annotator = ServedAnnotator.load(opened.run.task, opened.clients.settings)
    work = open_backlog(opened, annotator, sample=sample, step=step, batched=True, retry_failed=retry_failed)
    return work, annotator
