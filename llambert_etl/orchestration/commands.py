"""The argv of every step, for Airflow to render: the same whether a worker's process or a pod runs it."""

from collections.abc import Iterable, Sequence

from llambert_etl.partition import Partition, parse_partition

EXECUTABLE = "llambert"

PARTITION_KEY = "{{ partition_key }}"
RUN_ID = "{{ run_id }}"


def step(name: str, task: str, *options: str, partition: str = PARTITION_KEY, run: str = RUN_ID) -> list[str]:
    """Return the arguments of `llambert` for one step of a labelling task. `name` may be two words: `check labels`."""
    return [*name.split(), "--task", task, "--partition", partition, "--run", run, *options]


def gold_import(file: str, task: str) -> list[str]:
    return ["gold", "import", file, *step("", task)]


def option(flag: str, param: str) -> str:
    """Return a template for `flag=value` that renders to nothing while the trigger form leaves `param` empty."""
    return f"{{{{ '{flag}=' ~ params.{param} if params.{param} is not none else '' }}}}"


def switch(flag: str, param: str) -> str:
    """Return a template for a flag without a value, set by a tick in the trigger form."""
    return f"{{{{ '{flag}' if params.{param} else '' }}}}"


def label_shards(task: str, partition: str, run: str, shards: int) -> list[list[str]]:
    """Return one argv for each shard of a plan, already rendered: Airflow renders no template inside mapped values."""
    return [step("label", task, "--shard", str(shard), partition=partition, run=run) for shard in range(shards)]


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
