"""Addresses in settings: what has a host, and nothing beside it that may be a secret. A refused one is never shown."""

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

from llambert_etl.config.connections import holds_secret

_ADDRESS = re.compile(r"https?://[^\s/@?#]+(/[^\s@?#]*)?")
_FILE = re.compile(r"sqlite:////[^\s?#]+")
# Delta writes others as %20, which polars takes for a part of the name; a folder `a=b` it takes for a column.
_ODD = re.compile(r"[^\w/.:~@+,;&'()!$*\[\]-]", re.ASCII)


def _http(value: str) -> str:
    """Empty is as good as left out."""
    if value and not (_ADDRESS.fullmatch(value) and _has_host(value)):
        raise ValueError(
            "must be http://host or https://host, in ASCII, with a port and a path where needed, and without a user, a "
            "password or a query: those have settings of their own"
        )
    return value


def _registry(value: str) -> str:
    if value.startswith("sqlite:"):
        if not _FILE.fullmatch(value):
            raise ValueError(
                "a file must be sqlite:/// and an absolute path without spaces, such as sqlite:////data/mlflow.db"
            )
        return value
    return _http(value)


def _has_host(value: str) -> bool:
    try:
        at = urlsplit(value)
        return bool(at.hostname and at.hostname.isascii() and at.hostname.encode("idna") and at.port != 0)
    except ValueError:  # of a port, an IPv6 address or a name that is none
        return False


def _place(value: str) -> str:
    if holds_secret(value):
        raise ValueError(
            "must not name a user or a password, nor be a database's URI: those have settings of their own"
        )
    return value


def _lake(value: str) -> str:
    """Look at a local folder as it will be opened: whole, with the targets of links in it."""
    if odd := _ODD.search(value if "://" in value else str(Path(value).resolve())):
        raise ValueError(
            f"no folder of it, or above it, may have {odd[0]!r} in its name: readers of Delta tables find no file; "
            "choose names of ASCII letters, digits, '-', '_' and '.'"
        )
    return value


HttpAddress = Annotated[str, AfterValidator(_http)]
RegistryAddress = Annotated[str, AfterValidator(_registry)]
# A bucket, a folder, a data set: where files or tables lie, by a URI or a path.
Place = Annotated[str, AfterValidator(_place)]
LakePlace = Annotated[Place, AfterValidator(_lake)]
