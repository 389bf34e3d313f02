"""One of the processes that train together: `python -m llambert_etl.encoder.worker FOLDER RANK COUNT`."""

import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from llambert_etl.errors import LlambertError, TransientError

if TYPE_CHECKING:
    from llambert_etl.encoder.job import Job


def main() -> None:
    # First, for the imports take seconds: whoever started this process may be gone before they are done.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what it means
    folder, rank, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    logging.getLogger("llambert_etl").setLevel(logging.INFO if rank == 0 else logging.WARNING)
    from llambert_etl.encoder.job import Job

    job = Job(folder)
    try:
        _train(job, rank, count)
    except LlambertError as error:
        job.fail(rank, error)
        sys.exit(error.exit_code)


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # returns when the other end is closed: nothing is ever written there
    os._exit(TransientError.exit_code)


def _train(job: "Job", rank: int, count: int) -> None:
    import torch

    from llambert_etl.compute.device import device
    from llambert_etl.encoder.stages import run_stages

    on_gpu = device().type == "cuda"
    if on_gpu:
        torch.cuda.set_device(rank)
    meeting = f"file://{job.folder / 'meeting'}"  # and no port, which others could reach or have taken
    torch.distributed.init_process_group("nccl" if on_gpu else "gloo", meeting, rank=rank, world_size=count)
    model, tokenizer = job.start()
    for _ in run_stages(model, tokenizer, job.stages(), *job.told(rank)):
        pass
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
