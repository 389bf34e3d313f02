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
from llambert_etl.errors import ConfigError, TransientError
from llambert_etl.settings import Settings
from llambert_etl.store.storage import READS, Storage, safe_key
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


# Arrow asks for a file's size first, and then for so many bytes.


@pytest.mark.parametrize("new", [b"{}", b'{"longer": "than what lay there"}'], ids=["shorter", "longer"])
def test_a_file_that_is_replaced_while_it_is_read_is_read_whole(
    settings: Settings, proxied: dict[str, str], proxy: Proxy, new: bytes
) -> None:
    storage = Storage.from_settings(settings)
    storage.write("note.json", [b'{"a": "note"}'])
    late = proxy.rule("delay", "GET", "/note.json")
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(Storage(settings.lake, proxied).read, "note.json")
        assert proxy.reached(late)
        storage.write("note.json", [new])
        proxy.release(late)
        assert read.result() == new


def test_a_file_that_others_never_cease_to_replace_is_no_answer(
    settings: Settings, proxied: dict[str, str], proxy: Proxy
) -> None:
    storage = Storage.from_settings(settings)
    storage.write("note.json", [b"0"])
    with ThreadPoolExecutor(1) as pool:
        late = [proxy.rule("delay", "GET", "/note.json") for _ in range(READS)]
        read = pool.submit(Storage(settings.lake, proxied).read, "note.json")
        for number, rule in enumerate(late, 1):
            assert proxy.reached(rule)
            storage.write("note.json", [b"1" * number])
            proxy.release(rule)
        with pytest.raises(TransientError, match="again and again"):
            read.result()


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
