"""A landing folder on this machine's disk."""

import io
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from llambert_etl.errors import ConfigError, TransientError
from llambert_etl.sources.location import Location, file_prefixes, is_pattern, matches_name
from llambert_etl.sources.records import SourceObject


class LandingFolder:
    """Files below the allow-listed folders; a link that leads out of them, or nowhere, is refused."""

    def __init__(self, sources: Sequence[str]) -> None:
        self._roots = [Path(str(prefix)) for prefix in file_prefixes(sources) if prefix.bucket is None]

    def list(self, location: Location) -> Iterator[SourceObject]:
        """Yield matching regular files. A missing day is empty; a missing allow-listed folder is a ConfigError."""
        root = next(root for root in self._roots if location.is_inside(Location.parse(str(root))))
        if not root.is_dir():
            raise ConfigError(f"folder {str(root)!r} of LLAMBERT_SOURCES does not exist; create or mount it")
        for path in self._walk(Path("/"), location.parts):
            try:
                status = self._inside(path).stat()
            except FileNotFoundError as error:
                raise TransientError(f"{str(path)!r} went while its folder was listed; run it again") from error
            if stat.S_ISREG(status.st_mode):
                yield SourceObject(str(path), status.st_size, _version(status))

    def holds(self, location: Location) -> bool:
        return Path("/", *location.folder).is_dir()

    def open(self, item: SourceObject) -> io.RawIOBase:
        try:
            descriptor = os.open(self._inside(Path(item.uri)), os.O_RDONLY | os.O_NOFOLLOW)
        except PermissionError as error:
            raise ConfigError(f"{item.uri!r} cannot be read: permission denied; let this user read it") from error
        except OSError as error:
            raise TransientError(f"{item.uri!r} changed after it was listed: {error.strerror}") from error
        file = _File(descriptor)
        if _version(os.fstat(descriptor)) != item.etag:
            file.close()
            raise TransientError(f"{item.uri!r} changed after it was listed; run it again")
        return file

    def _walk(self, base: Path, parts: tuple[str, ...]) -> Iterator[Path]:
        if not parts:
            yield base
            return
        try:
            # A file may be named as a pattern is: a shell leaves `*.jsonl` behind where nothing matches.
            known = not is_pattern(parts[0]) and (base / parts[0]).exists()
            names = [parts[0]] if known else sorted(os.listdir(base))
        except PermissionError as error:
            raise ConfigError(f"folder {str(base)!r} cannot be listed: permission denied") from error
        except OSError as error:
            _refuse_broken_link(base, error)
            if isinstance(error, FileNotFoundError | NotADirectoryError):
                return
            raise TransientError(f"folder {str(base)!r} cannot be listed: {error.strerror}; run it again") from error
        for name in names:
            if matches_name(name, parts[0]):
                yield from self._walk(base / name, parts[1:])

    def _inside(self, path: Path) -> Path:
        try:
            real = Path(os.path.realpath(path, strict=True))
        except OSError as error:
            _refuse_broken_link(path, error)
            raise
        if not any(real.is_relative_to(root.resolve()) for root in self._roots):
            raise ConfigError(
                f"{str(path)!r} is a link that leads out of LLAMBERT_SOURCES, to {str(real)!r}; remove the link, "
                "or add its target there if tasks may read it"
            )
        return real


class _File(io.FileIO):
    """A disk that fails is no damaged file: that would be refused for good, since its listing stays the same."""

    def read(self, size: int | None = -1, /) -> bytes:
        try:
            return super().read(-1 if size is None else size)
        except OSError as error:
            raise TransientError(f"a file of the landing folder cannot be read: {error.strerror}; try again") from error


def _refuse_broken_link(path: Path, error: OSError) -> None:
    if path.is_symlink() and not path.exists():
        raise ConfigError(f"{str(path)!r} is a link that leads nowhere: {error.strerror}; remove or mend it") from error


def _version(status: os.stat_result) -> str:
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"
