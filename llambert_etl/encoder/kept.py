"""Checkpoints of trainings in the lake, where another try finds them on whatever machine it runs."""

import datetime
import logging
from importlib.metadata import version
from pathlib import Path

from llambert_etl.errors import DataError, TransientError
from llambert_etl.lake import Lake
from llambert_etl.store.copies import mismatch, sha256
from llambert_etl.store.folders import Folder, drop_old_folders

logger = logging.getLogger(__name__)

_ROOT = "_checkpoints"


def checkpoints_of(lake: Lake, task: str, run_key: str) -> Folder:
    """Return where the checkpoints of one training lie. Other software has others: its sums may differ."""
    software = "-".join(version(name).partition("+")[0] for name in ("torch", "transformers"))
    return Folder(lake.storage, _ROOT, task, f"{run_key}-{software}")


def drop_old(lake: Lake, before: datetime.datetime) -> int:
    """Delete those to which nothing was written since a moment; return how many trainings they are of."""
    return drop_old_folders(lake.storage, _ROOT, before)


class Kept:
    """Copies the checkpoints that a training writes to `local` into the lake, and those of an earlier try from it."""

    def __init__(self, folder: Folder, local: Path) -> None:
        self._folder, self._local = folder, local
        self._hashes: dict[str, str] = {}

    def fetch(self) -> None:
        """Take what an earlier try has left; nothing where it is not whole, for then training starts anew."""
        hashes = self._folder.hashes()
        if hashes is None:
            return
        try:
            self._folder.get(self._local, hashes)
            wrong = mismatch(self._local, hashes)
        except DataError as error:  # another try of this training went on meanwhile, and dropped what was listed
            wrong = str(error)
        if wrong is None:
            self._hashes = hashes
            return
        logger.warning("%s: %s is not what was written; training starts from nothing", self._folder.uri, wrong)
        for path in self._local.iterdir():
            path.unlink()

    def push(self) -> None:
        """Put into the lake what is new. A lake that is down costs the checkpoint, and not the training.

        So does another run of the same training, which drops what this one is writing.
        """
        names = {path.name for path in self._local.glob("*.safetensors")}
        if names <= self._hashes.keys():
            return
        dropped = _outdated(names)
        hashes = {name: self._hashes.get(name) or sha256(self._local / name) for name in names - dropped}
        try:
            self._folder.put(self._local, hashes)
            self._folder.drop_unlisted()
        except (TransientError, DataError) as error:
            logger.warning("the checkpoint is not kept: %s", error)
        self._hashes = hashes
        for name in dropped:
            (self._local / name).unlink()


def _outdated(names: set[str]) -> set[str]:
    """Return the epochs before the last one, and those of stages that are over: `stage-0-epoch-0002`, `stage-0`."""
    stems = sorted(name.removesuffix(".safetensors") for name in names)
    epochs = [stem for stem in stems if "-epoch-" in stem]
    over = [stem for stem in epochs if stem != epochs[-1] or stem.partition("-epoch-")[0] in stems]
    return {f"{stem}.safetensors" for stem in over}
