"""SeaweedFS as the stack's S3: one process, real signatures, conditional puts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from laptop.credentials import Credentials, write_private
from laptop.host import executable, server_environment
from laptop.ports import GRPC_OFFSET, LOOPBACK
from laptop.process import Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PORTS = ("s3", "s3-filer", "s3-master", "s3-volume")
REGION = "us-east-1"

# How many volumes a bucket takes at its first object; seven by default.
_ONE_VOLUME = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}


class SeaweedFS(Server):
    """An S3 with two identities, a writer and a reader, and the given buckets. `host` is an address of this machine."""

    def __init__(
        self,
        state: Path,
        ports: Mapping[str, int],
        credentials: Credentials,
        buckets: Sequence[str],
        host: str = LOOPBACK,
    ) -> None:
        folder = state / "s3"
        self.endpoint = f"http://{host}:{ports['s3']}"
        self.access_key, self.secret_key = credentials.s3_access_key, credentials.s3_secret_key
        self.reader_access_key, self.reader_secret_key = credentials.reader_access_key, credentials.reader_secret_key
        self._buckets = buckets
        self._sockets = [
            Path(f"/tmp/seaweedfs-{part}-{number}.sock")  # noqa: S108 - where the server puts them
            for name, part in (("s3", "s3"), ("s3-filer", "filer"), ("s3-master", "master"), ("s3-volume", "volume"))
            for number in (ports[name], f"grpc-{ports[name] + GRPC_OFFSET}")
        ]
        self._data, self._identities = folder / "data", folder / "identities.json"
        super().__init__(
            "s3",
            self._argv_of(ports, host),
            env={**server_environment(), **_ONE_VOLUME},
            folder=folder,
            ready=self._usable,
            # Asked to end, it waits 15 s for streams between its own parts. What it has acknowledged is with the
            # operating system by then, so nothing is lost by not waiting.
            grace=2.0,
        )

    def launch(self) -> None:
        self._data.mkdir(parents=True, exist_ok=True)
        write_private(self._identities, json.dumps(self._configuration()))
        super().launch()

    def stop(self) -> None:
        super().stop()
        # Its parts talk through sockets in /tmp, which outlive a killed server.
        for socket in self._sockets:
            socket.unlink(missing_ok=True)

    def client(self) -> "S3Client":
        """Return a client of the writer that tries once: whoever waits for the server does so by a condition."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1}),
        )

    def create_bucket(self, name: str) -> None:
        """Create a bucket in which an upload that its writer never finished is removed after a day."""
        client = self.client()
        try:
            client.create_bucket(Bucket=name)
        except client.exceptions.BucketAlreadyOwnedByYou:
            return
        rule = {
            "ID": "abort-unfinished-uploads",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
        }
        client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [rule]})  # type: ignore[list-item]

    def _usable(self) -> bool:
        # The gateway answers before a volume server has joined: only a stored object proves that writing works.
        try:
            for name in self._buckets:
                self.create_bucket(name)
            probe = {"Bucket": self._buckets[0], "Key": ".ready"}
            self.client().put_object(**probe, Body=b"ready")  # type: ignore[arg-type]
            self.client().delete_object(**probe)  # type: ignore[arg-type]
        except (BotoCoreError, ClientError):
            return False
        return True

    def _configuration(self) -> dict[str, object]:
        def identity(name: str, key: str, secret: str, *actions: str) -> dict[str, object]:
            return {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": list(actions)}

        writer = identity("writer", self.access_key, self.secret_key, "Admin", "Read", "Write", "List", "Tagging")
        reader = identity("reader", self.reader_access_key, self.reader_secret_key, "Read", "List")
        return {"identities": [writer, reader]}

    def _argv_of(self, ports: Mapping[str, int], host: str) -> list[str]:
        return [
            executable("weed"),
            "-logtostderr=true",
            "server",
            f"-dir={self._data}",
            f"-ip={host}",
            f"-ip.bind={host}",
            f"-master.port={ports['s3-master']}",
            f"-volume.port={ports['s3-volume']}",
            "-filer",
            f"-filer.port={ports['s3-filer']}",
            "-s3",
            f"-s3.port={ports['s3']}",
            f"-s3.config={self._identities}",
            # A misspelt bucket is an error, as it is on AWS.
            "-s3.autoCreateBucket=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.iam=false",
            "-master.telemetry=false",
            # A lone master takes the lead after this long at a restart; the default is ten to twenty seconds.
            "-master.electionTimeout=1s",
            # Small volumes, and more of them than there can be buckets: left to itself, it allows as many as the disk
            # has room for, were all of them full, and a few hundred buckets use those up.
            "-master.volumeSizeLimitMB=64",
            "-volume.max=10000",
            "-volume.preStopSeconds=0",
        ]
