"""Ingest from a bucket of a real S3: read like a folder, in few requests, with its failings told."""

import gzip
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from llambert_etl.errors import ConfigError, TransientError
from llambert_etl.lake import Lake
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.sources.files import FileDrop, Listing
from llambert_etl.steps.ingest import ingest
from llambert_etl.store.s3 import s3_client
from tests.fakes.proxy import Proxy
from tests.given.landing import DAY, NEXT, listed
from tests.given.poison import jsonl, parquet, reviews
from tests.given.tasks import make_task


def test_a_bucket_is_read_like_a_folder(s3: Any, bucket: str, lake: Lake, settings: Settings) -> None:
    uri = f"s3://{bucket}/landing/{{partition}}/*"
    task, here = make_task(source={"uri": uri}), settings.model_copy(update={"sources": [f"s3://{bucket}/landing"]})
    client = s3_client(here)
    for name, content in (
        ("a.jsonl.gz", gzip.compress(jsonl(*reviews(3)))),
        ("b.parquet", parquet(id=["p1", "p2"], text=["one", "two"])),
        ("deep/er/c.jsonl", jsonl(*reviews(1, start=9))),
        ("d.jsonl", b""),
    ):
        client.put_object(Bucket=bucket, Key=f"landing/{DAY}/{name}", Body=content)
    manifest = ingest(Run(task, DAY, "r1"), lake=lake, settings=here)
    assert manifest.rows == {"read": 5, "accepted": 5, "rejected": 0}
    assert ingest(Run(task, DAY, "r2"), lake=lake, settings=here).facts["replayed"] is True

    assert FileDrop(task.source, NEXT, here).why_empty() == "no_folder"
    client.put_object(Bucket=bucket, Key=f"landing/{NEXT}/deep/er/c.jsonl", Body=b"")
    assert FileDrop(task.source, NEXT, here).why_empty() == "no_match"

    drop = listed(FileDrop(task.source, DAY, here))
    client.put_object(Bucket=bucket, Key=f"landing/{DAY}/a.jsonl.gz", Body=gzip.compress(jsonl(*reviews(4))))
    with pytest.raises(TransientError, match="changed or went"), drop.open(drop.objects[0]) as raw:
        raw.read(1)
    with pytest.raises(TransientError, match="changed while"):
        drop.verify_unchanged()


def test_small_row_groups_cost_no_request_each(bucket: str, lake: Lake, settings: Settings, proxy: Proxy) -> None:
    here = settings.model_copy(update={"s3_endpoint": proxy.endpoint()})
    task = make_task(source={"uri": f"s3://{bucket}/landing/{{partition}}/*"})
    sink, numbers = io.BytesIO(), [str(number) for number in range(100)]
    pq.write_table(pa.table({"text": numbers, "x": numbers, "id": numbers}), sink, row_group_size=2)
    s3_client(here).put_object(Bucket=bucket, Key=f"landing/{DAY}/a.parquet", Body=sink.getvalue())
    asked = proxy.rule("drop_before", "GET", "a.parquet", nth=1_000)
    ingest(Run(task, DAY, "r1"), lake=lake, settings=here)
    documents = lake.scan("documents", task.name, DAY).select("id", "text").collect()
    assert sorted(documents.rows()) == sorted(zip(numbers, numbers, strict=True))
    assert proxy.seen(asked) < 20


def test_a_bucket_that_cannot_be_read_says_why_and_names_no_key(s3: Any, bucket: str, settings: Settings) -> None:
    here = settings.model_copy(update={"sources": [f"s3://{bucket}", "s3://no-such-bucket"]})
    with pytest.raises(ConfigError, match="no such bucket"):
        listed(Listing("s3://no-such-bucket/a/*.csv", here))
    key = SecretStr("AKIAFORGED0000000000")
    forged = here.model_copy(update={"s3_access_key_id": key, "s3_secret_access_key": key})
    with pytest.raises(ConfigError, match=rf"credentials .*'list' in '{bucket}'") as caught:
        listed(Listing(f"s3://{bucket}/a/*.csv", forged))
    assert "AKIAFORGED" not in str(caught.value)
    gone = here.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"})
    with pytest.raises(TransientError, match="LLAMBERT_S3_ENDPOINT"):
        listed(Listing(f"s3://{bucket}/a/*.csv", gone))
