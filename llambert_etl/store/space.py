"""This machine's disks: a full one ends a step with 75, the folder and what is free there; a path that cannot be used
with 78, and what may pass by itself with 75."""

import errno
import re
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from llambert_etl.errors import ConfigError, LlambertError, TransientError

# A quota, or a limit of the process, says it in other words than a full disk.
_NUMBERS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Libraries in Rust and C++ raise exceptions of their own, with the system's words in them.
_WORDS = re.compile(
    r"no space left on device|disk quota exceeded|file too large|PytorchStreamWriter failed writing", re.I
)
# Of a path, these do not pass by themselves; the others are a network disk, or a machine, that is at its end for now.
_MENDED = {errno.EPERM, errno.EACCES, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EROFS}
_PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}


class room_in:  # noqa: N801 - read as a sentence
    """Raise TransientError where a write in the block fails for want of room in `folder`, whatever was raised."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        """Look at nothing before: what is free now may not be in a minute."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and takes_no_more(error):
            raise no_room(self._folder, error) from error


def takes_no_more(error: BaseException) -> bool:
    """Tell whether a write failed for want of room."""
    if isinstance(error, LlambertError):
        return False
    return (isinstance(error, OSError) and error.errno in _NUMBERS) or bool(_WORDS.search(str(error)))


def no_room(folder: Path | None, error: BaseException) -> TransientError:
    """Return the error to raise; without a folder it is that of the file which the error names, or of scratch files."""
    named = error.filename if isinstance(error, OSError) else None
    place = (folder or Path(str(named or tempfile.gettempdir()))).absolute()
    there = next(each for each in (place, *place.parents) if each.is_dir())
    free = shutil.disk_usage(there).free
    said = " ".join(str(error).split())[:200]
    return TransientError(
        f"{str(there)!r}: this disk or quota takes no more; {free:,} bytes of the disk are free. Free some, or set "
        f"what names the folder (LLAMBERT_STATE, LLAMBERT_LAKE, TMPDIR) to a larger volume, then run the step again: "
        f"{said}"
    )


def unusable(error: OSError) -> LlambertError | None:
    """Return the error to raise for a failure of this machine's; None for another's, whose error names no file."""
    named = "" if error.filename is None else f"{str(error.filename)!r}: "
    if takes_no_more(error):
        return no_room(None, error)
    if named and error.errno in _MENDED:
        return ConfigError(f"{named}{error.strerror}; mend it, or the setting or argument that names it")
    if error.errno in _PASSING:
        return TransientError(f"{named or 'this machine: '}{error.strerror}; run the step again")
    return None
