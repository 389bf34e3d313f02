"""What the steps around the models cost as a corpus grows, beside an earlier commit in the same run."""

from benchmarks.scale.corpus import DAY, TASK, landing_file, world
from benchmarks.scale.day import ingested, labelled, planned, safe, size
from benchmarks.scale.trees import (
    OURS,
    Cost,
    Tree,
    beside,
    fill,
    medians,
    peer,
    run_command,
    run_program,
    run_step,
)

__all__ = [
    "DAY",
    "OURS",
    "TASK",
    "Cost",
    "Tree",
    "beside",
    "fill",
    "ingested",
    "labelled",
    "landing_file",
    "medians",
    "peer",
    "planned",
    "run_command",
    "run_program",
    "run_step",
    "safe",
    "size",
    "world",
]
