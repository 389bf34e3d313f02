"""A small file of the lake that several writers change at once, each seeing what the others have made of it."""

import fcntl
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from llambert_etl.errors import TransientError
from llambert_etl.settings import Settings
from llambert_etl.store.faults import store_faults
from llambert_etl.store.s3 import LOST, s3_client
from llambert_etl.store.storage import safe_key

_ATTEMPTS = 200
WRITERS = 8

# Makes the new content of the old, of which there is none at first. May be called again.
Edit = Callable[[bytes | None], bytes]


def edit_file(key: str, edit: Edit, settings: Settings) -> bytes:
    """Replace the file at `key` by what `edit` makes of it, as if nobody else wrote; return its new content.

    Readers see the old or the new. On S3 this rests on conditional puts, which `llambert doctor` checks.
    """
    with store_faults(f"{settings.lake.rstrip('/')}/{key}"):
        if settings.lake.startswith("s3://"):
            return _edit_object(safe_key(key), edit, settings)
        return _edit_local(Path(settings.lake, safe_key(key)), edit)


def _edit_object(key: str, edit: Edit, settings: Settings) -> bytes:
    client, (bucket, path) = s3_client(settings), _place(key, settings)
    for _ in range(_ATTEMPTS):
        try:
            try:
                found = client.get_object(Bucket=bucket, Key=path)
            except client.exceptions.NoSuchKey:
                new = edit(None)
                client.put_object(Bucket=bucket, Key=path, Body=new, IfNoneMatch="*")
                return new
            old = found["Body"].read()
            new = edit(old)
            if new != old:
                client.put_object(Bucket=bucket, Key=path, Body=new, IfMatch=found["ETag"])
            return new
        except (ClientError, BotoCoreError) as error:
            # Another writer was first, or our reply was lost and the content is ours already: look again.
            _ensure_lost(error)
    raise TransientError(f"s3://{bucket}/{path}: {_ATTEMPTS} writes in a row lost to other writers")


def race(key: str, settings: Settings) -> tuple[int, int]:
    """Let several writers create one object at once, then change it; return how many were let through each time."""
    client, (bucket, path) = s3_client(settings), _place(safe_key(key), settings)

    def racing(condition: Mapping[str, str]) -> list[str]:
        def put(writer: int) -> str | None:
            body = f"{list(condition)} {writer}".encode()
            try:
                return client.put_object(Bucket=bucket, Key=path, Body=body, **condition)["ETag"]  # type: ignore[arg-type]
            except (ClientError, BotoCoreError) as error:
                _ensure_lost(error)
                return None

        with ThreadPoolExecutor(WRITERS) as pool:
            return [etag for etag in pool.map(put, range(WRITERS)) if etag]

    with store_faults(f"s3://{bucket}/{path}"):
        creators = racing({"IfNoneMatch": "*"})
        return len(creators), len(racing({"IfMatch": creators[0]})) if creators else 0


def _ensure_lost(error: ClientError | BotoCoreError) -> None:
    """Raise for `store_faults` what does not say that another writer's put was first."""
    if not isinstance(error, ClientError) or error.response["Error"]["Code"] not in LOST:
        raise OSError(str(error)) from error


def _place(key: str, settings: Settings) -> tuple[str, str]:
    """Return the bucket and the whole key of a file of the lake."""
    bucket, _, prefix = settings.lake.removeprefix("s3://").partition("/")
    return bucket, f"{prefix.strip('/')}/{key}".lstrip("/")


def _edit_local(path: Path, edit: Edit) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        new = edit(path.read_bytes() if path.exists() else None)
        part = path.with_suffix(f".{uuid.uuid4().hex}.part")
        part.write_bytes(new)
        part.replace(path)
    return new
