"""Translates what deltalake, polars and pyarrow raise about storage into the three errors; for `store` and `lake` only.

What they raise for other reasons is ours, and passes as it is: a bug. Which is which was found by running them against
a store that refuses, hangs and breaks off, and against files that are gone, cut or overwritten:

- of deltalake all `DeltaError`s are the table's, its log's or the store's;
- of pyarrow and polars the store's are `OSError`s, those of S3 without a number and a file name;
- of polars damaged Parquet is a `ComputeError` that begins with `parquet`, or an `InvalidOperationError` about the
  schema in a file; a local file that is shorter than its table says makes it panic, and so, in the task that reads a
  file, do pages that are not what their encoding wants. All its other errors are ours.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from polars.exceptions import ComputeError, InvalidOperationError, PanicException

from llambert_etl.errors import ConfigError, DataError, LlambertError, TransientError
from llambert_etl.store.space import no_room, takes_no_more, unusable

# The libraries give object-store failures as one exception type and a sentence: it is read once, here.
_DENIED = re.compile(
    r"\b403\b|\b401\b|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|Forbidden|PermissionDenied", re.I
)
_SKEW = re.compile(r"RequestTimeTooSkewed", re.I)
_NO_BUCKET = re.compile(r"NoSuchBucket|bucket does not exist", re.I)
_CORRUPT = re.compile(
    r"json error|invalid json|commit files|corrupt|magic|EOF while parsing|missing field|thrift|out of spec"
    r"|invalid checkpoint|no table metadata or protocol|LogSegment end version|InvalidRange",
    re.I,
)
# As these begin, and nowhere else: further on polars quotes values.
_DAMAGED = re.compile(
    r"parquet( error)?: |out-of-spec: |unable to decode the encoded schema|.*assertion failed: range\.end as u64 <= "
    r"|called `Result::unwrap\(\)` on an `Err` value: JoinError::Panic"
)
_VACUUMED = re.compile(r"missing file .* when restore", re.I)
_MISSING = re.compile(r"not found|no such file|NoSuchKey|\b404\b", re.I)
# What says nothing of the failure, whatever words and numbers are in it: addresses, paths and durations.
_WHERE_AND_HOW_LONG = re.compile(r"""[^\s<>"'()]*/[^\s<>"'()]*|\b\d+(\.\d+)?(ns|µs|ms|s|m)\b""")
_MAX_MESSAGE = 300


@contextmanager
def store_faults(where: object) -> Iterator[None]:
    """Raise TransientError, ConfigError or DataError in place of a storage failure in the block.

    What stands for `where` is asked for its words only then.
    """
    try:
        yield
    except CommitFailedError as error:
        raise TransientError(f"{where}: another writer committed first; run the step again") from error
    except TableNotFoundError as error:
        raise ConfigError(f"{where}: no Delta table there; run `llambert init`") from error
    except (ComputeError, InvalidOperationError, PanicException) as error:
        if not _DAMAGED.match(str(error)):
            raise
        raise _damaged(str(where), str(error)) from error
    except (DeltaError, OSError) as error:
        raise _translate(str(where), error) from error


def _translate(where: str, error: Exception) -> LlambertError:
    if takes_no_more(error):
        return no_room(Path(where) if where.startswith("/") else None, error)
    if isinstance(error, OSError) and error.filename is not None and (ours := unusable(error)):
        return ours
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
    if isinstance(error, FileNotFoundError) and _MISSING.search(said):
        return DataError(
            f"{where}: a file is gone that this version of the table needs: it is older than the retention of "
            f"`llambert maintain`, or damaged; see the runbook, `restore a table`: {short}"
        )
    if _CORRUPT.search(said) or (isinstance(error, DeltaError) and _MISSING.search(said)):
        return _damaged(where, short)
    return TransientError(f"{where}: the store failed: {_without_keys(short)}")


def _damaged(where: str, said: str) -> DataError:
    short = " ".join(said.split())[:_MAX_MESSAGE]
    return DataError(f"{where}: the table is damaged; see the runbook, `restore a table`: {short}")


def _without_keys(message: str) -> str:
    return re.sub(r"(?i)(AccessKeyId|Credential)\W{0,8}[\w/+=-]+", r"\1=***", message)
