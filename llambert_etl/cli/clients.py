"""Builds what commands work with, once a process: settings, the task, the lake, the registry."""

from functools import cached_property
from typing import TYPE_CHECKING

from llambert_etl.cli.outcome import set_up_logging
from llambert_etl.config import LabellingTask, find_task
from llambert_etl.lake import Lake
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
