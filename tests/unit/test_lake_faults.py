"""What a failure of storage is told as: the libraries' sentences are read, not the names and times in them."""

import errno
from pathlib import Path

import pytest
from deltalake.exceptions import DeltaError

from llambert_etl.errors import ConfigError, DataError, LlambertError, TransientError
from llambert_etl.store.faults import store_faults

GET = "Generic S3 error: Error performing GET http://127.0.0.1:40403/b/{}/_delta_log/0.json in {}, after 5 retries - {}"
BUSY = "Server returned non-2xx status code: 503 Service Unavailable: <Error><Code>SlowDown</Code></Error>"
DENIED = "Server returned non-2xx status code: 403 Forbidden: <Error><Code>AccessDenied</Code></Error>"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(GET.format("lake", "403.814267ms", BUSY)), TransientError),
        (DeltaError(GET.format("lake_of_magic", "2.1s", BUSY)), TransientError),
        (DeltaError(f"Object at location b/404/corrupt/0.json: {BUSY}"), TransientError),
        (OSError(GET.format("lake", "2.1s", DENIED)), ConfigError),
        (OSError("When reading 'lake': <Error><Code>AccessDenied</Code></Error>"), ConfigError),
        (DeltaError("Object at location b/lake/0.json not found: 404 Not Found"), DataError),
        (OSError(errno.ENOSPC, "No space left on device", "/scratch/file"), TransientError),
    ],
)
def test_only_what_the_store_said_decides(error: Exception, told: type[LlambertError]) -> None:
    with pytest.raises(told), store_faults("lake"):
        raise error


@pytest.mark.parametrize("name", ["EPERM", "EACCES", "ENOENT", "ENOTDIR", "EISDIR", "EEXIST", "EROFS"])
def test_a_path_of_this_machine_that_cannot_be_used_is_a_matter_of_configuration(name: str) -> None:
    with pytest.raises(ConfigError, match=r"'\.state/models': Cannot be used; mend it"), store_faults("lake"):
        raise OSError(getattr(errno, name), "Cannot be used", ".state/models")


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file/state': Not a directory"), store_faults("lake"):
        (tmp_path / "file" / "state").mkdir()
