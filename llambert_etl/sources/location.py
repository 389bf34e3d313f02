"""The source URI: parsed, checked for traversal, and held against the allow-list of the settings."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, Self

from llambert_etl.config.sources import TableSource
from llambert_etl.errors import ConfigError

MAX_KEY_CHARS = 1_024

_GLOB = re.compile(r"[*?]")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\%]")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# S3 forbids bucket names that look like an address; so does everyone who remembers what 169.254.169.254 serves.
_ADDRESS = re.compile(r"[0-9.]+")
# A data set of the hub and the revision that is read; in the allow-list also all of it, or an organisation.
_DATASET = re.compile(r"datasets/(?P<name>\w[\w.-]*(?:/\w[\w.-]*(?:@\w[\w.-]*)?)?)(?:/(?P<path>.*))?", re.ASCII)
# An entry of the allow-list with this scheme names a connection or one of its tables, and no place of files.
_TABLES = "sql://"

Scheme = Literal["s3", "hf"]


@dataclass(frozen=True)
class Location:
    """What holds the files, and the parts of a key, of which some may hold `*` or `?`.

    `bucket` is a bucket of S3, a data set of the hub as `organisation/name@revision`, or None: this machine's disk.
    """

    bucket: str | None
    parts: tuple[str, ...]
    scheme: Scheme = "s3"

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Accept `s3://bucket/key`, `hf://datasets/name/key` and absolute paths. Raise ConfigError for all else."""
        scheme, colon, rest = uri.partition("://")
        if not colon:
            return cls(None, _parts(uri, _absolute(uri)))
        if scheme == "s3":
            bucket, _, path = rest.partition("/")
            if not _BUCKET.fullmatch(bucket) or _ADDRESS.fullmatch(bucket):
                raise ConfigError(f"{uri!r}: {bucket!r} is not the name of a bucket")
            return cls(bucket, _parts(uri, path))
        if scheme == "hf":
            found = _DATASET.fullmatch(rest.removesuffix("/"))
            if found is None or (found["path"] and "@" not in found["name"]):
                raise ConfigError(f"{uri!r} must be hf://datasets/ORGANISATION/NAME@REVISION/..., such as ...@main/...")
            return cls(found["name"], _parts(uri, found["path"] or ""), "hf")
        raise ConfigError(f"{uri!r}: scheme {scheme!r} is not read; use s3://, hf://datasets/ or an absolute path")

    @property
    def folder(self) -> tuple[str, ...]:
        """The parts before the first wildcard; the last part names files, so it never belongs to them."""
        literal = []
        for part in self.parts[:-1]:
            if is_pattern(part):
                break
            literal.append(part)
        return tuple(literal)

    def matches(self, key: str) -> bool:
        """Match part by part, so that `*` never crosses a `/`."""
        parts = key.split("/")
        return len(parts) == len(self.parts) and all(map(matches_name, parts, self.parts))

    def is_inside(self, prefix: "Location") -> bool:
        same = self.bucket == prefix.bucket or (prefix.scheme == "hf" and _is_of(str(self.bucket), str(prefix.bucket)))
        return self.scheme == prefix.scheme and same and self.folder[: len(prefix.parts)] == prefix.parts

    def __str__(self) -> str:
        path = "/".join(self.parts)
        kind = "datasets/" if self.scheme == "hf" else ""
        return f"/{path}" if self.bucket is None else f"{self.scheme}://{kind}{self.bucket}/{path}"


def _absolute(uri: str) -> str:
    if not uri.startswith("/"):
        raise ConfigError(f"{uri!r} must be s3://bucket/... or an absolute path such as /data/landing/...")
    return uri[1:]


def _parts(uri: str, path: str) -> tuple[str, ...]:
    path = path.removesuffix("/")
    if path and not is_safe_key(path):
        raise ConfigError(f"{uri!r} must not hold '.', '..', '//', '%', backslashes or control characters")
    return tuple(path.split("/")) if path else ()


def is_pattern(part: str) -> bool:
    """Tell whether a part of a location may match several names, whatever names there are."""
    return _GLOB.search(part) is not None


def matches_name(name: str, pattern: str) -> bool:
    """Match one part of a key: `*` is any characters, `?` is one, and all others mean themselves, brackets too."""
    return fnmatchcase(name, pattern.replace("[", "[[]"))


def _is_of(dataset: str, prefix: str) -> bool:
    """Tell whether a data set is one of an organisation, or a revision of the data set, that the allow-list names."""
    return dataset.startswith((f"{prefix}/", f"{prefix}@"))


def is_safe_key(key: str) -> bool:
    """Say whether a key means the same to every client and store: no traversal, no empty part, nothing escaped."""
    if len(key) > MAX_KEY_CHARS or _UNSAFE.search(key):
        return False
    return all(part not in ("", ".", "..") for part in key.split("/"))


def allowed_location(uri: str, sources: Sequence[str]) -> Location:
    """Parse `uri` and hold it against the allow-list. Raise ConfigError naming LLAMBERT_SOURCES otherwise."""
    location = files_location(uri)
    if not any(location.is_inside(prefix) for prefix in file_prefixes(sources)):
        raise ConfigError(
            f"source {uri!r} is not under any of LLAMBERT_SOURCES {list(sources)}; "
            "add its prefix there if tasks may read it"
        )
    return location


def files_location(uri: str) -> Location:
    """Parse a URI of files, its `{partition}` filled in. Raise ConfigError where it can name none in any deployment."""
    if "{" in uri or "}" in uri:
        raise ConfigError(f"source {uri!r}: the only placeholder is {{partition}}")
    location = Location.parse(uri)
    if not location.parts:
        raise ConfigError(f"source {uri!r} names no files: end it with a file name or a pattern such as *.jsonl.gz")
    return location


def file_prefixes(sources: Sequence[str]) -> list[Location]:
    """Return the entries of the allow-list that are places of files."""
    return [Location.parse(source) for source in sources if not source.startswith(_TABLES)]


def allowed_table(source: TableSource, sources: Sequence[str]) -> str:
    """Return the name of a table as `documents.source` has it. Raise ConfigError naming LLAMBERT_SOURCES otherwise."""
    connection = f"{_TABLES}{source.connection}"
    table = f"{connection}/{source.table}"
    if not {connection, table} & {entry.rstrip("/") for entry in sources}:
        raise ConfigError(
            f"source {table!r} is not among LLAMBERT_SOURCES {list(sources)}; add {connection!r} there if tasks may "
            "read all tables that the connection's user may read, or this one"
        )
    return table
