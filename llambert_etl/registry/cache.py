"""Local copies of versions: each is verified whenever it is asked for, and fetched where it is absent or changed."""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from llambert_etl.errors import DataError
from llambert_etl.registry.versions import ModelVersion, mismatch


def cached(version: ModelVersion, cache: Path, fetch: Callable[[Path], None], mend: str) -> Path:
    """Return a folder with the version's files, each verified; `fetch` fills an empty one.

    Raise DataError, which ends with `mend`, where a fetched file is not the one that was registered.
    """
    target = cache / version.name / str(version.version)
    if target.exists() and not mismatch(target, version.hashes):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        folder = Path(scratch) / "encoder"
        folder.mkdir()
        fetch(folder)
        if wrong := mismatch(folder, version.hashes):
            raise DataError(
                f"{version.name} version {version.version}: {wrong} is not the file that was registered (sha256 "
                f"differs); {mend}"
            )
        _move(folder, target, version.hashes)
    return target


def _move(folder: Path, target: Path, hashes: Mapping[str, str]) -> None:
    """Rename a verified folder to its place, where another process may have put the same one meanwhile."""
    try:
        folder.rename(target)
    except OSError:
        if mismatch(target, hashes) is None:
            return
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)
