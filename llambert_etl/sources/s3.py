"""A bucket of an S3 service: the only place of `sources` that knows boto3."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from llambert_etl.errors import ConfigError, LlambertError, TransientError
from llambert_etl.settings import Settings
from llambert_etl.sources.location import Location
from llambert_etl.sources.records import SourceObject
from llambert_etl.store.s3 import s3_client

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

# Bytes that are read and thrown away where a reader jumps ahead: asking anew takes as long as a few of these.
_SKIP_BYTES = 256 * 1024

_CHANGED = frozenset({"NoSuchKey", "PreconditionFailed", "404", "412", "InvalidRange", "416"})


class Bucket:
    """One bucket, read with the credentials of the settings, or AWS's own chain when they hold none."""

    def __init__(self, name: str, settings: Settings) -> None:
        self._name = name
        self._client = s3_client(settings)

    def list(self, location: Location) -> Iterator[SourceObject]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=_prefix(location))
        try:
            for page in pages:
                for item in page.get("Contents", []):
                    key = item["Key"]
                    if location.matches(key) and not key.endswith("/"):
                        yield SourceObject(f"s3://{self._name}/{key}", item["Size"], item["ETag"])
        except (ClientError, BotoCoreError) as error:
            raise _translated(error, self._name, "list") from error

    def holds(self, location: Location) -> bool:
        """A folder is what keys begin with."""
        try:
            page = self._client.list_objects_v2(Bucket=self._name, Prefix=_prefix(location), MaxKeys=1)
        except (ClientError, BotoCoreError) as error:
            raise _translated(error, self._name, "list") from error
        return bool(page.get("Contents"))

    def open(self, item: SourceObject) -> io.RawIOBase:
        return _Object(self._client, self._name, item)

    def put(self, file: Path, key: str) -> None:
        """Bring a file of this machine there; nobody sees it before it is whole."""
        try:
            with file.open("rb") as body:
                self._client.upload_fileobj(body, self._name, key)
        except (ClientError, BotoCoreError) as error:
            raise _translated(error, self._name, "put", f"s3://{self._name}/{key}") from error


def _prefix(location: Location) -> str:
    return "".join(f"{part}/" for part in location.folder)


class _Object(io.RawIOBase):
    """One listed version of an object, read forward in one request, and anew where a seek leads back or far ahead."""

    def __init__(self, client: "S3Client", bucket: str, item: SourceObject) -> None:
        self._client, self._bucket, self._item = client, bucket, item
        self._key = item.uri.removeprefix(f"s3://{bucket}/")
        self._at = 0
        # Where its next byte comes from; a seek moves `_at` alone.
        self._body_at = 0
        self._body: StreamingBody | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._item.size}[whence]
        self._at = base + offset
        return self._at

    # The buffer's type differs between typeshed's releases; whatever it is, it can be sliced and measured.
    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), self._item.size - self._at)
        if wanted <= 0:
            return 0
        try:
            data = self._stream().read(wanted)
        except (ClientError, BotoCoreError) as error:
            raise _translated(error, self._bucket, "get", self._item.uri) from error
        if not data:
            raise TransientError(
                f"{self._item.uri!r}: the store sent {self._at} of {self._item.size} bytes; run it again"
            )
        buffer[: len(data)] = data
        self._at += len(data)
        self._body_at = self._at
        return len(data)

    def close(self) -> None:
        self._drop_body()
        super().close()

    def _stream(self) -> "StreamingBody":
        """Return the body where `_at` is. A Parquet file of many small row groups is a jump for each column of each."""
        gap = self._at - self._body_at
        if self._body is None or not 0 <= gap <= _SKIP_BYTES or len(self._body.read(gap)) < gap:
            self._drop_body()
            # IfMatch ties the bytes to the listed version, also across seeks.
            self._body = self._client.get_object(
                Bucket=self._bucket, Key=self._key, Range=f"bytes={self._at}-", IfMatch=self._item.etag
            )["Body"]
        self._body_at = self._at
        return self._body

    def _drop_body(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None


def _translated(error: ClientError | BotoCoreError, bucket: str, action: str, uri: str | None = None) -> LlambertError:
    """Say whether trying again helps. Never quotes the service's text: it may name an access key."""
    what = f"cannot {action} {uri or f'bucket {bucket!r}'}"
    if isinstance(error, ClientError):
        return _refused(error, what, bucket, action)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return ConfigError(f"{what}: no credentials; set LLAMBERT_S3_ACCESS_KEY_ID and LLAMBERT_S3_SECRET_ACCESS_KEY")
    return TransientError(f"{what}: {type(error).__name__}; is LLAMBERT_S3_ENDPOINT right and the service up?")


def _refused(error: ClientError, what: str, bucket: str, action: str) -> LlambertError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "NoSuchBucket":
        return ConfigError(f"{what}: there is no such bucket; create it or mend source.uri")
    if code in _CHANGED:
        return TransientError(f"{what}: it changed or went after it was listed; run it again")
    if code == "RequestTimeTooSkewed":
        return ConfigError(f"{what}: the clock of this machine differs too much from the service's; set it right")
    if status in (401, 403):
        return ConfigError(
            f"{what}: {code or status}; the credentials must be valid and allow {action!r} in {bucket!r}"
        )
    if status >= 500 or code in ("SlowDown", "RequestTimeout", "RequestTimeoutException", "Throttling"):
        return TransientError(f"{what}: the service answered {status} {code}; run it again")
    return ConfigError(
        f"{what}: the service answered {status} {code}; check LLAMBERT_S3_ENDPOINT and LLAMBERT_S3_REGION"
    )
