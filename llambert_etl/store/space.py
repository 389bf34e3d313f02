"""Room on this machine's disks: a full one ends a step with 75, the folder and what is free there."""

import errno
import re
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from llambert_etl.errors import LlambertError, TransientError

# A quota, or a limit of the process, says it in other words than a full disk.
_NUMBERS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Libraries in Rust and C++ raise exceptions of their own, with the system's words in them.
_WORDS = re.compile(
    r"no space left on device|disk quota exceeded|file too large|PytorchStreamWriter failed writing", re.I
)


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
