"""Plain files beside the tables, on S3 or in a folder: staging notes, reports, models, Parquet parts."""

import contextlib
import datetime
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Self

import pyarrow as pa
import pyarrow.fs as pafs

from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.settings import Settings
from llambert_etl.store.faults import store_faults

# Where the options name no limits: pyarrow's own wait far too long on a store that hangs.
_CONNECT_TIMEOUT, _TIMEOUT = "10s", "60s"
_CLOCK = "_clock"
# So often a file is read that others replace meanwhile.
READS = 10


def safe_key(*parts: str) -> str:
    """Join parts to one key. Raise ConfigError for one that a store would change: `a//b` is kept as `a/b`."""
    key = "/".join(parts)
    path = PurePosixPath(key)
    odd = any(character in key for character in "\\%\0") or any(ord(character) < 32 for character in key)
    if odd or path.is_absolute() or ".." in path.parts or str(path) != key or key in ("", "."):
        raise ConfigError(
            f"object key {key!r}: must be relative and plain, without '..', '//', '%', '\\' or control characters"
        )
    return key


def for_polars(options: Mapping[str, str]) -> dict[str, Any]:
    """Return the options under polars' names: it takes the retry limit as a number and refuses deltalake's text."""
    return {**options, "max_retries": int(options["max_retries"])} if "max_retries" in options else dict(options)


class Storage:
    """One root (`s3://bucket/prefix` or a folder) and the keys below it; its faults come as the three errors."""

    def __init__(self, uri: str, options: Mapping[str, str]) -> None:
        self.uri = uri.rstrip("/")
        if uri.startswith("s3://"):
            self._root = self.uri.removeprefix("s3://")
            self._filesystem: pafs.FileSystem = _s3(options)
        elif "://" in uri:
            raise ConfigError(f"lake {uri!r}: use s3://bucket/prefix or a local folder")
        else:
            self._root = str(Path(uri).resolve())
            self.uri = self._root
            self._filesystem = pafs.LocalFileSystem()

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(settings.lake, settings.storage_options)

    def path(self, key: str) -> str:
        return f"{self._root}/{safe_key(key)}"

    def create(self, key: str) -> pa.NativeFile:
        """Open a new file for writing, within `store_faults`. On S3 it appears when it is closed, whole."""
        path = self.path(key)
        if isinstance(self._filesystem, pafs.LocalFileSystem):
            self._filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        return self._filesystem.open_output_stream(path)

    def write(self, key: str, chunks: Iterable[bytes]) -> None:
        """Write a file whole: a local one appears by rename, as one on S3 appears when its upload ends.

        Memory is one chunk. Where `chunks` raises, that passes as it is, and a cut file may appear on S3.
        """
        where = f"{self.uri}/{key}"
        local = isinstance(self._filesystem, pafs.LocalFileSystem)
        target = f"{key}.{uuid.uuid4().hex}.part" if local else key
        try:
            with store_faults(where):
                stream = self.create(target)
            try:
                for chunk in chunks:
                    with store_faults(where):
                        stream.write(chunk)
                        stream.flush()  # Arrow's queue of parts waiting for their upload has no bound
            finally:
                with store_faults(where):
                    stream.close()
            if local:
                with store_faults(where):
                    self._filesystem.move(self.path(target), self.path(key))
        except BaseException:
            if local:
                Path(self.path(target)).unlink(missing_ok=True)
            raise

    def read(self, key: str) -> bytes | None:
        """Return the content, or None where there is no such file.

        Arrow asks S3 for a file's size, then for so many bytes. One that is replaced in between comes cut, or with
        bytes after its end that nobody wrote: so it counts only where the same file is there afterwards.
        """
        where = f"{self.uri}/{key}"
        with store_faults(where):
            for _ in range(READS):
                try:
                    with self._filesystem.open_input_stream(self.path(key)) as stream:
                        content, read = bytes(stream.readall()), stream.metadata()
                    with self._filesystem.open_input_stream(self.path(key)) as stream:
                        if stream.metadata() == read:
                            return content
                except FileNotFoundError:
                    return None
        raise TransientError(f"{where}: others write it again and again; run the step again")

    def open(self, key: str) -> pa.NativeFile:
        """Open a file, to be read within `store_faults`."""
        with store_faults(f"{self.uri}/{key}"):
            try:
                return self._filesystem.open_input_file(self.path(key))
            except FileNotFoundError as error:
                raise DataError(f"{self.uri}/{key}: a file that the table needs is gone") from error

    def size(self, key: str) -> int:
        return int(self._info(key).size)

    def written(self, key: str) -> datetime.datetime | None:
        """Return when a file was last written, by the store's clock; None where there is none."""
        found: datetime.datetime | None = self._info(key).mtime
        return found

    def now(self) -> datetime.datetime:
        """Return the time by the store's clock: that of a file written now. This machine's may be wrong by days."""
        self.write(_CLOCK, [b""])
        found = self.written(_CLOCK)
        if found is None:
            raise TransientError(f"{self.uri}/{_CLOCK}: written, but not found; run the step again")
        return found

    def list(self, prefix: str) -> list[pafs.FileInfo]:
        """Return the files below `prefix`, each with `.path` relative to the root's parent and `.mtime`."""
        with store_faults(f"{self.uri}/{prefix}"):
            try:
                found = self._filesystem.get_file_info(pafs.FileSelector(self.path(prefix), recursive=True))
            except FileNotFoundError:  # Arrow's allow_not_found still raises where a folder is made as it looks
                return []
        return [info for info in found if info.type == pafs.FileType.File]

    def below(self, prefix: str) -> dict[str, pafs.FileInfo]:
        """Return the files below `prefix` by their keys there."""
        start = len(self.path(prefix)) + 1
        return {info.path[start:]: info for info in self.list(prefix)}

    def delete(self, info: pafs.FileInfo) -> bool:
        """Delete a file; tell whether it was still there."""
        with store_faults(info.path), contextlib.suppress(FileNotFoundError):
            self._filesystem.delete_file(info.path)
            return True
        return False

    def _info(self, key: str) -> pafs.FileInfo:
        with store_faults(f"{self.uri}/{key}"):
            return self._filesystem.get_file_info(self.path(key))


def _s3(options: Mapping[str, str]) -> pafs.S3FileSystem:
    endpoint = options.get("aws_endpoint", "")
    return pafs.S3FileSystem(
        access_key=options.get("aws_access_key_id"),
        secret_key=options.get("aws_secret_access_key"),
        region=options.get("aws_region"),
        endpoint_override=endpoint.partition("://")[2] or None,
        scheme=endpoint.partition("://")[0] or "https",
        connect_timeout=_seconds(options.get("connect_timeout", _CONNECT_TIMEOUT)),
        request_timeout=_seconds(options.get("timeout", _TIMEOUT)),
        allow_bucket_creation=False,
    )


def _seconds(duration: str) -> float:
    """Return the seconds of a duration such as `60s`, as deltalake writes it."""
    return float(duration.removesuffix("s"))
