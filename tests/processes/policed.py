"""A SeaweedFS that holds each identity to its policy of docker/kubernetes/s3."""

import secrets
from typing import Any

from laptop.seaweed import SeaweedFS
from laptop.stack import REPOSITORY

FILES = REPOSITORY / "docker" / "kubernetes" / "s3"
POLICIES = sorted(set(FILES.glob("*.json")) - {FILES / "lifecycle.json"})


class PolicedS3(SeaweedFS):
    """An S3 with an identity for each policy file, which may do what the file says."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.keys = {path.stem: (secrets.token_hex(10), secrets.token_urlsafe(24)) for path in POLICIES}
        super().__init__(*arguments, **options)

    def _configuration(self) -> dict[str, object]:
        limited = [
            {
                "name": name,
                "credentials": [{"accessKey": key, "secretKey": secret}],
                "actions": [],
                "policyNames": [name],
            }
            for name, (key, secret) in self.keys.items()
        ]
        given = super()._configuration()["identities"]
        assert isinstance(given, list)
        policies = [{"name": path.stem, "content": path.read_text()} for path in POLICIES]
        return {"identities": [*given, *limited], "policies": policies}
