"""What S3 and Arrow really do, as measured (M1, M14, M15): these tests fail on the day a dependency changes it.

What Delta makes of it is in `test_lake_contract.py`.
"""

import itertools
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import boto3
import pyarrow as pa
import pytest
from botocore.exceptions import ClientError, ParamValidationError

from laptop.seaweed import SeaweedFS
from llambert_etl.errors import ConfigError
from llambert_etl.store.storage import safe_key
from tests.fakes.proxy import Proxy

WRITERS = 8

# M1


def test_a_conditional_put_lets_exactly_one_of_many_writers_through(client: Any, bucket: str) -> None:
    ready = Barrier(WRITERS)

    def write(key: str, writer: int) -> str:
        ready.wait()
        try:
            client.put_object(Bucket=bucket, Key=key, Body=str(writer).encode(), IfNoneMatch="*")
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "written"

    with ThreadPoolExecutor(WRITERS) as pool:
        for key in map(str, range(3)):
            outcomes = list(pool.map(write, [key] * WRITERS, range(WRITERS)))
            assert sorted(outcomes) == ["PreconditionFailed"] * (WRITERS - 1) + ["written"]
            winner = outcomes.index("written")
            assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == str(winner).encode()


# M14: keys


def test_the_store_keeps_a_double_slash_as_one_and_so_our_keys_may_have_none(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="a//b", Body=b"x")
    assert [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["a/b"]
    with pytest.raises(ConfigError):
        safe_key("a//b")


@pytest.mark.parametrize("key", ["../x", "a\0b"])
def test_a_key_that_leaves_the_bucket_or_holds_a_nul_is_refused(client: Any, bucket: str, key: str) -> None:
    with pytest.raises((ClientError, ParamValidationError)):
        client.put_object(Bucket=bucket, Key=key, Body=b"x")
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)
    with pytest.raises(ConfigError):
        safe_key(key)


# M15: text


@pytest.mark.parametrize("bad", ["\ud800", b"\xff", 7, float("nan")], ids=["surrogate", "bytes", "int", "nan"])
def test_one_bad_text_fails_a_whole_arrow_batch(bad: object) -> None:
    with pytest.raises((pa.ArrowException, UnicodeEncodeError, TypeError)):
        pa.array([*itertools.repeat("good", 99), bad], pa.string())


def test_arrow_takes_a_nul_in_a_text() -> None:
    assert pa.array(["a\0b"], pa.string()).to_pylist() == ["a\0b"]


# The bench itself: a store without conditional put is what `strip` makes of a good one.


def test_without_its_condition_a_put_overwrites(s3: SeaweedFS, bucket: str, client: Any, proxy: Proxy) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"first")
    proxy.rule("strip", "PUT", "/a$", keys=(s3.access_key, s3.secret_key))
    keys = {"aws_access_key_id": s3.access_key, "aws_secret_access_key": s3.secret_key}
    through = boto3.client("s3", endpoint_url=proxy.endpoint(), region_name="us-east-1", **keys)
    through.put_object(Bucket=bucket, Key="a", Body=b"second", IfNoneMatch="*")
    assert client.get_object(Bucket=bucket, Key="a")["Body"].read() == b"second"
