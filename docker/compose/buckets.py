"""Makes the buckets of a deployment, with the lifecycle rule that every bucket needs: `buckets.py ENDPOINT NAME...`."""

import json
import sys
from pathlib import Path

import boto3

endpoint, *names = sys.argv[1:]
client = boto3.client("s3", endpoint_url=endpoint)
rule = json.loads(Path(__file__).with_name("lifecycle.json").read_text())
for name in names:
    try:
        client.create_bucket(Bucket=name)
    except client.exceptions.BucketAlreadyOwnedByYou:
        pass
    client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration=rule)
