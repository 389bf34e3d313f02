"""Local copies of folders: each is verified whenever it is asked for, and fetched where it is absent or changed."""

import contextlib
import datetime
import errno
import glob
import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from llambert_etl.errors import DataError
from llambert_etl.store.space import room_in


def cached(target: Path, hashes: Mapping[str, str], fetch: Callable[[Path], None], what: str, mend: str) -> Path:
    """Return `target` with these files, each verified by its sha256; `fetch` fills an empty folder.

    Raise DataError, which ends with `mend`, where a fetched file of `what` is not the one that was listed.
    """
    if target.exists() and not mismatch(target, hashes):
        os.utime(target)  # it is in use
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with room_in(target.parent), tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        folder = Path(scratch) / "copy"
        folder.mkdir()
        fetch(folder)
        if wrong := mismatch(folder, hashes):
            raise DataError(f"{what}: {wrong} is not the file that was registered (sha256 differs); {mend}")
        if not settle(folder, target) and mismatch(target, hashes):
            shutil.rmtree(target, ignore_errors=True)
            settle(folder, target)
    return target


def drop_unused(root: Path, pattern: str, oldest: datetime.datetime) -> int:
    """Remove the folders of a pattern that nothing has written or asked for since; return how many."""
    # Unlike Path.glob, this one goes on where a folder vanishes while it looks.
    found = (root / name for name in glob.glob(pattern, root_dir=root))
    unused = [folder for folder in found if _last_used(folder) < oldest.timestamp()]
    for folder in unused:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
    return len(unused)


def _last_used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime if folder.is_dir() else math.inf
    except FileNotFoundError:
        return math.inf


def mismatch(folder: Path, hashes: Mapping[str, str]) -> str | None:
    """Return the first file that is absent or has another sha256."""
    for name, wanted in hashes.items():
        if not (folder / name).is_file() or sha256(folder / name) != wanted:
            return name
    return None


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def settle(folder: Path, target: Path) -> bool:
    """Rename a whole folder to its place; tell whether it is there now, or another process had put its own there."""
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True
