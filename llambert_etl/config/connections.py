"""Named SQL connections: what a task file may say of them. The URI behind a name is the deployment's secret."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from llambert_etl.config.fields import COLUMN, TABLE_PATH, Names

_DATABASE = re.compile(r"(?i)postgres(ql)?://")


def _name(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", value):
        raise ValueError(
            "must be the name of a connection of the deployment, such as warehouse; its URI belongs in "
            "LLAMBERT_CONNECTIONS__<name> or in a mounted file of that name, never in a task file"
        )
    return value


def _uri(value: SecretStr) -> SecretStr:
    if not _DATABASE.match(value.get_secret_value()):
        raise ValueError("must be a URI that starts with postgresql://")
    return value


ConnectionName = Annotated[str, AfterValidator(_name), Names("connection")]
ConnectionUri = Annotated[SecretStr, AfterValidator(_uri)]
# `schema.table` or `table`, each spelt as the database keeps it: it is quoted, so its case counts.
TablePath = Annotated[str, Field(pattern=TABLE_PATH)]
Column = Annotated[str, Field(pattern=COLUMN)]


def holds_secret(uri: str) -> bool:
    """Tell whether a URI is a database's or names a user: neither belongs in a task file."""
    return bool(_DATABASE.match(uri) or re.match(r"\w+://[^/]*@", uri))


def without_secrets(text: str) -> str:
    """Hide passwords, and what a database's URI says behind its scheme."""
    return re.sub(r"(?i)(postgres(ql)?://|\w+://[^\s/]*@|password=)[^\s'\"]*", "***", text)
