"""The lake on a store that refuses, hangs, cuts short, takes rights away or lost a part of a table."""

import time
from typing import Any

import pytest

from laptop.seaweed import SeaweedFS
from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.lake import Lake
from llambert_etl.settings import Settings
from tests.fakes.proxy import COMMIT, Fault, Proxy
from tests.given.documents import DAY, TASK, append, content, documents, manifest, replace

# R16, R17, R18: a store that refuses, hangs or cuts short


def test_a_burst_of_refusals_is_waited_out(lake: Lake, faulty: Lake, proxy: Proxy) -> None:
    before = lake.version("documents")
    burst = proxy.rule("503", "PUT", COMMIT, times=2)
    assert not replace(faulty, "new")
    assert proxy.seen(burst) == 3
    assert (lake.version("documents"), content(lake)) == (before + 1, "enw")


@pytest.mark.parametrize(
    ("fault", "method", "path"),
    [
        ("503", "PUT", COMMIT),
        ("503", "(PUT|POST)", r"\.parquet"),
        ("503", "GET", r"_delta_log"),
        ("drop_before", "PUT", COMMIT),
        ("delay", "PUT", COMMIT),
        ("delay", "(PUT|POST)", r"\.parquet"),
        ("delay", "GET", r"_delta_log"),
    ],
)
def test_a_store_that_stays_broken_fails_the_step_in_bounded_time_and_changes_nothing(
    lake: Lake, faulty: Lake, proxy: Proxy, fault: Fault, method: str, path: str
) -> None:
    replace(lake, "old")
    before = lake.version("documents")
    broken, started = proxy.rule(fault, method, path, times=None), time.monotonic()
    with pytest.raises(TransientError, match="/lake/documents"):
        replace(faulty, "new")
    assert time.monotonic() - started < 30
    assert proxy.seen(broken) <= 8
    assert (lake.version("documents"), content(lake)) == (before, "dlo")


@pytest.mark.parametrize("times", [1, None], ids=["once", "for ever"])
def test_a_truncated_file_is_an_error_or_read_again_but_never_a_short_table(
    lake: Lake, faulty: Lake, proxy: Proxy, times: int | None
) -> None:
    replace(lake, "abcdef")
    proxy.rule("truncate", "GET", r"/documents/task.*\.parquet", times=times)
    if times is None:
        with pytest.raises((TransientError, DataError)):
            content(faulty)
    else:
        assert content(faulty) == "abcdef"


# R19: wrong rights


@pytest.mark.parametrize("verb", [replace, append])
def test_a_read_only_identity_reads_but_its_write_is_a_matter_of_settings(
    lake: Lake, settings: Settings, s3: SeaweedFS, verb: Any
) -> None:
    replace(lake, "old")
    before = lake.version("documents")
    keys = {"aws_access_key_id": s3.reader_access_key, "aws_secret_access_key": s3.reader_secret_key}
    reader = Lake(lake.uri, {**settings.storage_options, **keys})
    assert content(reader) == "dlo"
    with pytest.raises(ConfigError, match="/lake/documents.* refuses these credentials") as error:
        verb(reader, "new")
    assert s3.reader_access_key not in str(error.value)
    assert s3.reader_secret_key not in str(error.value)
    assert (lake.version("documents"), content(lake)) == (before, "dlo")


def test_rights_that_are_lost_between_staging_and_commit_leave_the_table_as_it_was(
    lake: Lake, settings: Settings, s3: SeaweedFS
) -> None:
    replace(lake, "old")
    staged = lake.stage("documents", TASK, DAY, [documents("new")], name="part")
    keys = {"aws_access_key_id": s3.reader_access_key, "aws_secret_access_key": s3.reader_secret_key}
    reader = Lake(lake.uri, {**settings.storage_options, **keys})
    with pytest.raises(ConfigError, match="refuses these credentials"):
        reader.replace_partition("documents", TASK, DAY, staged, commit_key="new", manifest=manifest("r1"))
    assert content(lake) == "dlo"


@pytest.mark.parametrize("name", ["aws_access_key_id", "aws_secret_access_key"])
def test_wrong_credentials_are_refused_at_once_without_being_shown(
    lake: Lake, proxied: dict[str, str], proxy: Proxy, name: str
) -> None:
    asked = proxy.rule("delay", ".*", ".*", times=None, seconds=0)
    with pytest.raises(ConfigError, match="refuses these credentials") as error:
        Lake(lake.uri, {**proxied, name: "canary0123456789"}).version("documents")
    assert "canary0123456789" not in str(error.value)
    assert proxy.seen(asked) <= 2


# R24: a damaged log


LOG = "lake/documents/_delta_log/"
NOWHERE = b'{"version": 999, "size": 5, "sizeInBytes": 1, "numOfAddFiles": 3}'


@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        ("00000000000000000002.json", "deleted", "next commit|commit files"),
        ("00000000000000000002.json", "cut", "Json error"),
        ("00000000000000000005.json", "cut", "Json error"),
        ("00000000000000000004.json", "deleted", "Gap between checkpoint version 3 and next commit 5"),
        ("00000000000000000005.json", "deleted", "version 5 was committed, and _delta_log/0{19}5.json is gone"),
        ("00000000000000000003.checkpoint.parquet", "deleted", "_last_checkpoint hint but didn't find any"),
        ("00000000000000000003.checkpoint.parquet", "cut", "Corrupt footer"),
        ("_last_checkpoint", NOWHERE, "_last_checkpoint hint but didn't find any"),
    ],
)
def test_a_damaged_log_is_a_loud_error_and_never_an_older_or_a_shorter_table(
    lake: Lake, settings: Settings, client: Any, bucket: str, name: str, damage: str | bytes, says: str
) -> None:
    for ids in "abc":
        append(lake, ids)
    if "02.json" not in name:
        lake.open("documents").create_checkpoint()
    for ids in "de":
        append(lake, ids)
    if damage == "deleted":
        client.delete_object(Bucket=bucket, Key=LOG + name)
    else:
        whole = client.get_object(Bucket=bucket, Key=LOG + name)["Body"].read()
        body = damage if isinstance(damage, bytes) else whole[: len(whole) // 2]
        client.put_object(Bucket=bucket, Key=LOG + name, Body=body)
    for each in (lake, Lake.from_settings(settings)):
        with pytest.raises(DataError, match=f"/lake/documents: the table is damaged.*({says})"):
            content(each)
        with pytest.raises(DataError, match=f"/lake/documents.*: the table is damaged.*({says})"):
            append(each, "f")


def test_a_data_file_that_is_gone_is_told_as_that(lake: Lake, client: Any, bucket: str) -> None:
    append(lake, "a")
    (key,) = (each["Key"] for each in client.list_objects_v2(Bucket=bucket, Prefix="lake/documents/task=")["Contents"])
    client.delete_object(Bucket=bucket, Key=key)
    with pytest.raises(DataError, match="/lake/documents: a file is gone that this version of the table needs"):
        content(lake)


@pytest.mark.parametrize("kept", [0, 0.5], ids=["emptied", "cut"])
def test_a_data_file_that_is_cut_is_damage_and_nothing_to_wait_for(
    lake: Lake, client: Any, bucket: str, kept: float
) -> None:
    append(lake, "a")
    (key,) = (each["Key"] for each in client.list_objects_v2(Bucket=bucket, Prefix="lake/documents/task=")["Contents"])
    whole = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    client.put_object(Bucket=bucket, Key=key, Body=whole[: int(len(whole) * kept)])
    with pytest.raises(DataError, match="/lake/documents: the table is damaged"):
        content(lake)


def test_a_version_that_another_writer_has_just_committed_is_no_damage(lake: Lake, settings: Settings) -> None:
    other = Lake.from_settings(settings)
    for ids in "ab":
        append(lake, ids)
        assert content(other) == content(lake)


def test_a_table_without_its_log_is_told_as_absent(lake: Lake, settings: Settings, bucket: str) -> None:
    with pytest.raises(ConfigError, match="/elsewhere/documents: no Delta table there"):
        Lake(f"s3://{bucket}/elsewhere", settings.storage_options).version("documents")
