"""The boto3 client for single objects; bulk reads and writes go through polars and deltalake."""

from typing import TYPE_CHECKING

from llambert_etl.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# What stores answer to a conditional put when another writer was first.
LOST = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409"})


def s3_client(settings: Settings) -> "S3Client":
    """Return a client with the settings' credentials, or AWS's own chain where they hold none."""
    import boto3
    from botocore.config import Config

    # A hung store fails the step within minutes; the scheduler's retries do the long waiting.
    bounded = Config(
        connect_timeout=10,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": 4},
        response_checksum_validation="when_required",
        # A bucket is a host name on AWS only; elsewhere it is the first part of the path.
        s3={"addressing_style": "path" if settings.s3_endpoint else "auto"},
    )
    key, secret = settings.s3_access_key_id, settings.s3_secret_access_key
    return boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        region_name=settings.s3_region,
        aws_access_key_id=key.get_secret_value() if key else None,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=bounded,
    )
