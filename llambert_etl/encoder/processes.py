"""Trains in several processes, one for each device: starts them, tells what they say, and ends them with this one."""

import logging
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llambert_etl.config import Recipe
from llambert_etl.encoder.card import Padding
from llambert_etl.encoder.checkpoints import Checkpoints
from llambert_etl.encoder.job import Job
from llambert_etl.encoder.labelled import Stage
from llambert_etl.encoder.stages import run_stages
from llambert_etl.errors import ConfigError, TransientError
from llambert_etl.settings import Settings, computing_environment

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 5.0
# They talk to each other on this machine and to nobody else; bars and advice on torch's speed are not for a log.
_QUIET = {
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}


def process_count(recipe: Recipe, settings: Settings) -> int:
    """Return how many processes share a batch: what Settings say, or one for each GPU as far as it can be dealt out.

    Raise ConfigError where the batch cannot be dealt out evenly, or to so many.
    """
    wanted, devices = settings.train_processes, torch.cuda.device_count()
    if wanted is None:
        return max(count for count in range(1, max(devices, 1) + 1) if recipe.batch_size % count == 0)
    if recipe.batch_size % wanted:
        raise ConfigError(
            f"encoder.batch_size: {recipe.batch_size} rows cannot be dealt out evenly to {wanted} processes; "
            "change it, or LLAMBERT_TRAIN_PROCESSES"
        )
    if 0 < devices < wanted:
        raise ConfigError(f"LLAMBERT_TRAIN_PROCESSES: {wanted} is more than the {devices} GPUs here; leave it out")
    return wanted


def train_together(
    count: int,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    stages: Sequence[Stage],
    recipe: Recipe,
    padding: Padding,
    checkpoints: Checkpoints,
) -> Iterator[float]:
    """Do what `run_stages` does, in `count` processes; all stages are over before the first score is given.

    Raises what one of them raised; TransientError where one was killed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        job = Job(Path(scratch))
        job.write(model, tokenizer, stages, recipe, padding, checkpoints)
        _run(count, job, checkpoints.written)
        # Here all of them are over, so each is taken and none is trained.
        yield from run_stages(model, tokenizer, stages, recipe, padding, checkpoints)


def _run(count: int, job: Job, look: Callable[[], None]) -> None:
    """Run the processes to their end, and `look` at what they write. However this one ends, they end with it."""
    logger.info("training in %d processes", count)
    children: list[subprocess.Popen[str]] = []
    try:
        for rank in range(count):
            children.append(_start(rank, count, job.folder))
        teller = threading.Thread(target=_tell, args=(children[0].stdout,))
        teller.start()
        while None in (noticed := [child.poll() for child in children]) and not any(noticed):
            look()
            time.sleep(_POLL_SECONDS)
        look()
    finally:
        for child in children:
            _end(child)
    teller.join()
    if any(noticed):
        raise _cause(job, noticed, [child.returncode for child in children])


def _start(rank: int, count: int, folder: Path) -> "subprocess.Popen[str]":
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    threads = {"OMP_NUM_THREADS": max(1, torch.get_num_threads() // count)}
    return subprocess.Popen(  # noqa: S603 - our own argv, no shell
        [sys.executable, "-m", "llambert_etl.encoder.worker", str(folder), str(rank), str(count)],
        env={**computing_environment(), **_QUIET, **{name: str(value) for name, value in (place | threads).items()}},
        stdin=subprocess.PIPE,  # closes when this process is gone, however it went: then the child goes too
        stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
        text=True,
    )


def _tell(lines: IO[str]) -> None:
    for line in lines:
        logger.info("%s", line.rstrip())


def _end(child: "subprocess.Popen[str]") -> None:
    child.terminate()
    try:
        child.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _cause(job: Job, noticed: Sequence[int | None], codes: Sequence[int]) -> Exception:
    """Return the error that a process raised, else that one was killed, else that there is a bug.

    A process that has lost another fails too, and may be noticed first.
    """
    told = job.failure()
    if told is not None:
        return told
    for rank, code in enumerate(codes):
        ended_here = noticed[rank] is None and code == -signal.SIGTERM
        if code < 0 and not ended_here:
            return TransientError(
                f"training: process {rank + 1} of {len(codes)} was ended by {signal.Signals(-code).name}, often for "
                "want of memory; run it again, and lower encoder.batch_size if it happens again"
            )
    return RuntimeError(f"training: of {len(codes)} processes one failed, with exit codes {codes}; see its words above")
