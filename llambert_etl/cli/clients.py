"""Builds what commands work with, once a process: settings, the task, the lake, the registry."""

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from llambert_etl.cli.outcome import set_up_logging
from llambert_etl.config import LabellingTask, find_task
from llambert_etl.errors import ConfigError
from llambert_etl.lake import Lake
from llambert_etl.partition import Partition, parse_partition
from llambert_etl.settings import Settings, load_settings

if TYPE_CHECKING:
    from llambert_etl.registry import Registry


class Clients:
    """Each client is made when a command first asks for it, so a command pays only for what it uses."""

    @cached_property
    def settings(self) -> Settings:
        settings = load_settings()
        set_up_logging(settings.log)
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

    def task(self, name: str) -> LabellingTask:
        return find_task(self.settings.include, name)


class Opened(NamedTuple):
    """What every step is given: its labelling task, its day and the clients."""

    task: LabellingTask
    day: Partition
    clients: Clients


def open_step(task: str, partition: str, expect: str | None) -> Opened:
    """Parse a step's options. Raise ConfigError where the task file here is not the one that the caller read."""
    day, clients = parse_partition(partition), Clients()
    found = clients.task(task)
    if expect not in (None, found.config_hash):
        raise ConfigError(
            f"task {task!r}: --expect {expect}, but the file in {clients.settings.include} has the hash "
            f"{found.config_hash}: scheduler and worker must have the same task files; deploy them again, then rerun"
        )
    return Opened(found, day, clients)
