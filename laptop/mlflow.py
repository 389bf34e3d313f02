"""The MLflow server: SQLite, artifacts through the server into S3, every request authenticated."""

from collections.abc import Mapping
from pathlib import Path

from laptop.credentials import Credentials, write_private
from laptop.host import executable, server_environment
from laptop.http import answers
from laptop.ports import LOOPBACK
from laptop.process import Server
from laptop.seaweed import REGION, SeaweedFS

PORTS = ("mlflow",)


class MlflowServer(Server):
    """Clients need its URI and one login; only the server holds the key to the bucket.

    `database` is the address of a PostgreSQL database, with its password, in place of a SQLite file.
    """

    def __init__(
        self,
        state: Path,
        ports: Mapping[str, int],
        credentials: Credentials,
        s3: SeaweedFS,
        bucket: str,
        host: str = LOOPBACK,
        database: str = "",
    ) -> None:
        folder = state / "mlflow"
        port = ports["mlflow"]
        self.uri = f"http://{host}:{port}"
        self.username, self.password = credentials.mlflow_user, credentials.mlflow_password
        self._auth_file, self._users = folder / "auth.ini", folder / "users.db"
        argv = [
            executable("mlflow"),
            "server",
            "--app-name=basic-auth",
            "--serve-artifacts",
            f"--artifacts-destination=s3://{bucket}/artifacts",
            f"--host={host}",
            f"--port={port}",
            "--workers=1",
            f"--allowed-hosts={host}:{port},localhost:{port}",
        ]
        env = {
            "MLFLOW_BACKEND_STORE_URI": database or f"sqlite:///{folder / 'mlflow.db'}",
            "MLFLOW_S3_ENDPOINT_URL": s3.endpoint,
            "AWS_ACCESS_KEY_ID": s3.access_key,
            "AWS_SECRET_ACCESS_KEY": s3.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "MLFLOW_AUTH_CONFIG_PATH": str(self._auth_file),
            "MLFLOW_AUTH_ADMIN_USERNAME": self.username,
            "MLFLOW_AUTH_ADMIN_PASSWORD": self.password,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": credentials.mlflow_secret_key,
            # Eight helper processes, about 1.4 GB, for evaluation jobs that nothing here uses.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        super().__init__(
            "mlflow",
            argv,
            env={**server_environment(), **env},
            folder=folder,
            ready=lambda: answers(f"{self.uri}/health"),
            deadline=120.0,
        )

    def launch(self) -> None:
        lines = [
            "[mlflow]",
            "default_permission = READ",
            f"database_uri = sqlite:///{self._users}",
            # Without it each request hashes the password anew, a tenth of a second of a processor.
            "auth_cache_ttl_seconds = 60",
        ]
        write_private(self._auth_file, "\n".join(lines) + "\n")
        super().launch()
