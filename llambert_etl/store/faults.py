"""Translates what deltalake, polars and pyarrow raise about storage into the three errors."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from polars.exceptions import ComputeError

from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.store.space import no_room, takes_no_more

# The libraries give object-store failures as one exception type and a sentence: it is read once, here.
_DENIED = re.compile(
    r"\b403\b|\b401\b|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|Forbidden|PermissionDenied", re.I
)
_SKEW = re.compile(r"RequestTimeTooSkewed", re.I)
_NO_BUCKET = re.compile(r"NoSuchBucket|bucket does not exist", re.I)
_CORRUPT = re.compile(
    r"json error|invalid json|commit files|corrupt|magic|EOF while parsing|missing field|thrift|out of spec"
    r"|invalid checkpoint|no table metadata or protocol|LogSegment end version",
    re.I,
)
_VACUUMED = re.compile(r"missing file .* when restore", re.I)
_MISSING = re.compile(r"not found|no such file|NoSuchKey|\b404\b", re.I)
# What says nothing of the failure, whatever words and numbers are in it: addresses, paths and durations.
_WHERE_AND_HOW_LONG = re.compile(r"""[^\s<>"'()]*/[^\s<>"'()]*|\b\d+(\.\d+)?(ns|µs|ms|s|m)\b""")
_MAX_MESSAGE = 300
# Python's own have a file name; what libraries raise of a store has none. These do not pass by themselves.
_LOCAL = {errno.EPERM, errno.EACCES, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EROFS}


@contextmanager
def store_faults(where: str) -> Iterator[None]:
    """Raise TransientError, ConfigError or DataError in place of a storage failure in the block."""
    try:
        yield
    except CommitFailedError as error:
        raise TransientError(f"{where}: another writer committed first; run the step again") from error
    except TableNotFoundError as error:
        raise ConfigError(f"{where}: no Delta table there; run `llambert init`") from error
    except (DeltaError, ComputeError, OSError) as error:
        raise _translate(where, error) from error


def _translate(where: str, error: Exception) -> Exception:
    if takes_no_more(error):
        return no_room(Path(where) if where.startswith("/") else None, error)
    if isinstance(error, OSError) and error.filename is not None and error.errno in _LOCAL:
        return ConfigError(
            f"{str(error.filename)!r}: {error.strerror}; mend it, or the setting or argument that names it"
        )
    said = " ".join(str(error).split())
    short = said[:_MAX_MESSAGE]
    # pyarrow writes ACCESS_DENIED where the store said AccessDenied.
    said = _WHERE_AND_HOW_LONG.sub(" ", said).replace("_", "")
    if _SKEW.search(said):
        return ConfigError(f"{where}: the store refuses this machine's clock; set it right: {short}")
    if _NO_BUCKET.search(said):
        return ConfigError(f"{where}: the bucket does not exist; create it or mend LLAMBERT_LAKE: {short}")
    if _DENIED.search(said):
        return ConfigError(
            f"{where}: the store refuses these credentials; mend LLAMBERT_S3_ACCESS_KEY_ID and "
            f"LLAMBERT_S3_SECRET_ACCESS_KEY or the identity's rights: {_without_keys(short)}"
        )
    if _VACUUMED.search(said):
        return ConfigError(f"{where}: files of that version are deleted already; name a later version: {short}")
    if isinstance(error, ComputeError | FileNotFoundError) and _MISSING.search(said):
        return DataError(
            f"{where}: a file is gone that this version of the table needs: it is older than the retention of "
            f"`llambert maintain`, or damaged; see the runbook, `restore a table`: {short}"
        )
    if _CORRUPT.search(said) or (isinstance(error, DeltaError) and _MISSING.search(said)):
        return DataError(f"{where}: the table is damaged; see the runbook, `restore a table`: {short}")
    return TransientError(f"{where}: the store failed: {_without_keys(short)}")


def _without_keys(message: str) -> str:
    return re.sub(r"(?i)(AccessKeyId|Credential)\W{0,8}[\w/+=-]+", r"\1=***", message)
