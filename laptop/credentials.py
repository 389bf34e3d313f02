"""The passwords and keys of one stack: drawn once for its state folder, readable by its owner only."""

import base64
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path


def _secret(size: int = 24) -> str:
    return secrets.token_urlsafe(size)


@dataclass(frozen=True, repr=False)
class Credentials:
    """`reader` may only read and list; `fernet_key` and the other keys sign or encrypt and are never typed."""

    s3_access_key: str = field(default_factory=lambda: secrets.token_hex(10))
    s3_secret_key: str = field(default_factory=_secret)
    reader_access_key: str = field(default_factory=lambda: secrets.token_hex(10))
    reader_secret_key: str = field(default_factory=_secret)
    mlflow_user: str = "admin"
    mlflow_password: str = field(default_factory=_secret)
    mlflow_secret_key: str = field(default_factory=_secret)
    airflow_user: str = "admin"
    airflow_password: str = field(default_factory=_secret)
    airflow_jwt_secret: str = field(default_factory=lambda: _secret(64))
    airflow_secret_key: str = field(default_factory=_secret)
    fernet_key: str = field(default_factory=lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())


def credentials_of(state: Path) -> Credentials:
    """Return the folder's credentials, drawn at the first call."""
    file = state / "credentials.json"
    if not file.exists():
        write_private(file, json.dumps(asdict(Credentials()), indent=2))
    return Credentials(**json.loads(file.read_text()))


def write_private(file: Path, text: str) -> None:
    """Write a file that nobody else could read at any moment."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.unlink(missing_ok=True)
    with open(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as out:
        out.write(text)
    part.replace(file)
