"""The argv of every step, for Airflow to render: the same whether a worker's process or a pod runs it."""

from collections.abc import Iterable, Sequence
from typing import Any

from airflow.sdk import literal

from llambert_etl.config import LabellingTask
from llambert_etl.partition import Partition, parse_partition

EXECUTABLE = "llambert"

PARTITION_KEY = "{{ partition_key }}"
RUN_ID = "{{ run_id }}"
# A run that somebody started by hand, or that an event asked for which somebody forced, is not asked for its reasons.
FORCED = (
    "{{ '--force' if dag_run.run_type == 'manual' "
    "or triggering_asset_events.values() | sum(start=[]) | selectattr('extra.forced') | list else '' }}"
)

# A night looks for the days on which nothing ran; whoever asks for certain days gets those.
MISSED = "{{ '--missed' if dag_run.run_type == 'scheduled' else '' }}"

# `--soft-labels` or `--hard-labels`, or nothing while the trigger form leaves it to the task.
LABELS = "{{ '--' ~ params.labels ~ '-labels' if params.labels is not none else '' }}"


def step(name: str, task: LabellingTask, *options: str, partition: str = PARTITION_KEY, run: str = RUN_ID) -> list[str]:
    """Return the arguments of `llambert` for one step of a labelling task. `name` may be words: `check labels`.

    `--expect` lets a step refuse to run where another version of the task file lies than the one that was parsed here.
    """
    named = ["--task", task.name, "--expect", task.config_hash, "--partition", partition, "--run", run]
    return [*name.split(), *named, *options]


def gold_import(file: str, task: LabellingTask) -> list[Any]:
    """Return the command. The file is what a task file names, so nothing in it is rendered: that reads connections."""
    return ["gold", "import", literal(file), *step("", task)]


def study(task: LabellingTask, kind: str, partition: str, *options: str) -> list[str]:
    return ["study", kind, *step("", task, *options, partition=partition)]


def option(flag: str, param: str) -> str:
    """Return a template for `flag=value` that renders to nothing while the trigger form leaves `param` empty."""
    return f"{{{{ '{flag}=' ~ params.{param} if params.{param} is not none else '' }}}}"


def switch(flag: str, param: str) -> str:
    """Return a template for a flag without a value, set by a tick in the trigger form."""
    return f"{{{{ '{flag}' if params.{param} else '' }}}}"


def label_shards(task: LabellingTask, partition: str, run: str, shards: int) -> list[list[str]]:
    """Return one argv for each shard of a plan, already rendered: Airflow renders no template inside mapped values."""
    return [step("label", task, "--shard", str(shard), partition=partition, run=run) for shard in range(shards)]


def document_checks(task: LabellingTask, partitions: Iterable[str], run: str) -> list[list[str]]:
    """Return one argv for each day that a night has ingested: its own, and the past ones whose files had changed."""
    return [step("check documents", task, partition=partition, run=run) for partition in partitions]


def rendered(arguments: Iterable[str]) -> list[str]:
    """Drop the options that rendered to nothing and refuse a run without a partition key.

    Airflow starts such a run and renders its key as the string `None`; the step must fail at once, never take today.
    """
    argv = [argument for argument in arguments if argument]
    if "--partition" in argv:
        parse_partition(partition_of(argv))
    return argv


def partition_of(argv: Sequence[str]) -> Partition:
    """Return what follows `--partition`, or nothing: `maintain` has no partition."""
    position = argv.index("--partition") + 1 if "--partition" in argv else len(argv)
    return Partition(argv[position] if position < len(argv) else "")
