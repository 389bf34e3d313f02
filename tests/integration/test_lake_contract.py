"""What Delta really does on S3, as measured (M2 to M13): these tests fail on the day a dependency changes it.

Most rows are a promise that the lake builds on; some are a shortcoming that it works around. Both are pinned.
"""

import random
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, SchemaMismatchError
from deltalake.transaction import CommitProperties, Transaction

from laptop.seaweed import SeaweedFS
from tests.fakes.proxy import COMMIT, Proxy
from tests.processes.children import Child

DAYS = ("2026-11-10", "2026-11-11", "2026-11-12", "2026-11-13")
DAY = DAYS[0]
FIRST_COMMIT = r"/_delta_log/0+\.json"


@pytest.fixture
def options(s3: SeaweedFS, proxy: Proxy) -> dict[str, str]:
    """Storage options of deltalake that lead through the proxy."""
    return {
        "aws_endpoint": proxy.endpoint(),
        "aws_allow_http": "true",
        "aws_access_key_id": s3.access_key,
        "aws_secret_access_key": s3.secret_key,
        "aws_region": "us-east-1",
        "max_retries": "5",
        "retry_timeout": "20s",
    }


@pytest.fixture
def uri(bucket: str, options: dict[str, str]) -> str:
    """Return the address of a table of one row, partitioned by day."""
    found = f"s3://{bucket}/table"
    write_deltalake(found, rows("seed"), partition_by=["day"], storage_options=options)
    return found


def rows(prefix: str, day: str = DAY, count: int = 1) -> pa.Table:
    return pa.table({"day": [day] * count, "id": [f"{prefix}{number}" for number in range(count)]})


def ids(uri: str, options: dict[str, str]) -> list[str]:
    return sorted(DeltaTable(uri, storage_options=options).to_pyarrow_table()["id"].to_pylist())


def at_once(actions: list[Callable[[], object]]) -> list[object]:
    """Run all at one moment; return each one's result, or the error of Delta that it raised."""
    barrier = Barrier(len(actions))

    def run(action: Callable[[], object]) -> object:
        barrier.wait()
        try:
            return action()
        except DeltaError as error:
            return error

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(run, actions))


def failures(outcomes: list[object]) -> list[str]:
    return [type(outcome).__name__ for outcome in outcomes if isinstance(outcome, Exception)]


def transaction(version: int) -> CommitProperties:
    return CommitProperties(app_transactions=[Transaction("fence", version)])


# M2 to M5: races. `gather` holds each commit until all are there, so that every run is the worst case.


def test_concurrent_appends_all_land(uri: str, options: dict[str, str], proxy: Proxy) -> None:
    proxy.rule("gather", "PUT", COMMIT, times=8)
    outcomes = at_once(
        [
            lambda name=name: write_deltalake(uri, rows(name), mode="append", storage_options=options)
            for name in "abcdefgh"
        ]
    )
    assert failures(outcomes) == []
    assert ids(uri, options) == [f"{name}0" for name in "abcdefgh"] + ["seed0"]


def test_of_racing_creators_of_a_table_each_has_landed_or_is_told(
    bucket: str, options: dict[str, str], proxy: Proxy
) -> None:
    # How many land is luck: a loser is put after the winner, unless a commit new to it defines the table too.
    uri = f"s3://{bucket}/absent"
    proxy.rule("gather", "PUT", FIRST_COMMIT, times=6)
    outcomes = at_once(
        [
            lambda name=name: write_deltalake(uri, rows(name), mode="append", storage_options=options)
            for name in "abcdef"
        ]
    )
    assert set(failures(outcomes)) <= {"CommitFailedError"}
    landed = [name for name, outcome in zip("abcdef", outcomes, strict=True) if outcome is None]
    assert ids(uri, options) == [f"{name}0" for name in landed] != []


@pytest.mark.parametrize("day", [DAY, DAYS[1]], ids=["full", "empty"])
def test_of_racing_overwrites_of_one_partition_exactly_one_wins(
    uri: str, options: dict[str, str], proxy: Proxy, day: str
) -> None:
    tables = [DeltaTable(uri, storage_options=options) for _ in range(4)]
    proxy.rule("gather", "PUT", COMMIT, times=4)
    outcomes = at_once(
        [
            lambda table=table, name=name: write_deltalake(
                table, rows(name, day, 3), mode="overwrite", predicate=f"day = '{day}'"
            )
            for table, name in zip(tables, "abcd", strict=True)
        ]
    )
    assert failures(outcomes) == ["CommitFailedError"] * 3
    left = [each for each in ids(uri, options) if each != "seed0"]
    assert len(left) == 3
    assert len({each[0] for each in left}) == 1


def test_racing_overwrites_of_disjoint_partitions_all_win(uri: str, options: dict[str, str], proxy: Proxy) -> None:
    tables = [DeltaTable(uri, storage_options=options) for _ in DAYS]
    proxy.rule("gather", "PUT", COMMIT, times=len(DAYS))
    outcomes = at_once(
        [
            lambda table=table, day=day: write_deltalake(
                table, rows(day, day), mode="overwrite", predicate=f"day = '{day}'"
            )
            for table, day in zip(tables, DAYS, strict=True)
        ]
    )
    assert failures(outcomes) == []
    assert ids(uri, options) == [f"{day}0" for day in DAYS]


# M6 and M7: application transactions


def test_an_app_transaction_lets_one_of_many_concurrent_appends_through(
    uri: str, options: dict[str, str], proxy: Proxy
) -> None:
    tables = [DeltaTable(uri, storage_options=options) for _ in range(4)]
    proxy.rule("gather", "PUT", COMMIT, times=4)
    outcomes = at_once(
        [
            lambda table=table, name=name: write_deltalake(
                table, rows(name), mode="append", commit_properties=transaction(1)
            )
            for table, name in zip(tables, "abcd", strict=True)
        ]
    )
    assert failures(outcomes) == ["CommitFailedError"] * 3
    assert len(ids(uri, options)) == 2


def test_an_app_transaction_does_not_stop_a_later_replay(uri: str, options: dict[str, str]) -> None:
    for _ in range(2):
        write_deltalake(uri, rows("a"), mode="append", storage_options=options, commit_properties=transaction(1))
    assert ids(uri, options) == ["a0", "a0", "seed0"]
    assert DeltaTable(uri, storage_options=options).transaction_version("fence") == 1


# M8 to M11: lost replies and a store that fails


@pytest.mark.parametrize("fault", ["500_after", "drop_after"])
def test_a_lost_reply_makes_a_plain_append_commit_one_file_twice(
    uri: str, options: dict[str, str], proxy: Proxy, fault: Any
) -> None:
    proxy.rule(fault, "PUT", COMMIT)
    write_deltalake(uri, rows("a"), mode="append", storage_options=options)
    table = DeltaTable(uri, storage_options=options)
    assert table.version() == 2
    assert ids(uri, options) == ["a0", "seed0"]


@pytest.mark.parametrize("fault", ["500_after", "drop_after"])
@pytest.mark.parametrize(
    "verb",
    [
        {"mode": "overwrite", "predicate": f"day = '{DAY}'"},
        {"mode": "append", "commit_properties": CommitProperties(app_transactions=[Transaction("fence", 1)])},
    ],
    ids=["overwrite", "transaction"],
)
def test_a_lost_reply_is_told_as_a_conflict_although_the_data_is_committed(
    uri: str, options: dict[str, str], proxy: Proxy, fault: Any, verb: Any
) -> None:
    table = DeltaTable(uri, storage_options=options)
    proxy.rule(fault, "PUT", COMMIT)
    with pytest.raises(CommitFailedError):
        write_deltalake(table, rows("a"), **verb)
    assert DeltaTable(uri, storage_options=options).version() == 1
    assert "a0" in ids(uri, options)


@pytest.mark.parametrize(("fault", "times"), [("503", 3), ("drop_before", 1)])
def test_a_passing_failure_is_tried_again_and_leaves_one_version(
    uri: str, options: dict[str, str], proxy: Proxy, fault: Any, times: int
) -> None:
    rule = proxy.rule(fault, "PUT", COMMIT, times=times)
    write_deltalake(uri, rows("a"), mode="append", storage_options=options)
    assert proxy.seen(rule) == times + 1
    assert DeltaTable(uri, storage_options=options).version() == 1
    assert ids(uri, options) == ["a0", "seed0"]


def test_a_lasting_failure_ends_as_an_os_error_with_the_table_untouched(
    uri: str, options: dict[str, str], proxy: Proxy
) -> None:
    rule = proxy.rule("503", "PUT", COMMIT, times=None)
    with pytest.raises(OSError, match="retries"):
        write_deltalake(uri, rows("a"), mode="append", storage_options={**options, "max_retries": "2"})
    assert proxy.seen(rule) == 3
    assert DeltaTable(uri, storage_options=options).version() == 0
    assert ids(uri, options) == ["seed0"]


# M12: killed while it writes. Random values do not compress, so that the file takes several parts.

ROWS = 1_500_000


def overwriting(uri: str, options: dict[str, str], seed: int) -> Generator[None, None, None]:
    values = pa.py_buffer(random.Random(seed).randbytes(ROWS * 8))  # noqa: S311
    table = pa.table({"day": pa.repeat(DAY, ROWS), "value": pa.Array.from_buffers(pa.int64(), ROWS, [None, values])})
    yield
    write_deltalake(uri, table, mode="overwrite", predicate=f"day = '{DAY}'", storage_options=options)


def test_a_killed_overwrite_leaves_the_partition_whole_and_an_unfinished_upload(
    bucket: str, options: dict[str, str], proxy: Proxy, client: Any
) -> None:
    uri = f"s3://{bucket}/killed"
    seed = pa.table({"day": [DAY] * 2, "value": [1, 2]})
    write_deltalake(uri, seed, partition_by=["day"], storage_options=options)
    kills = [
        ("kill_before", "PUT", r"uploadId=", 0),  # at the first part
        ("kill_before", "POST", r"uploadId=", 0),  # at the end of the upload
        ("kill_before", "PUT", COMMIT, 0),
        ("kill_after", "PUT", COMMIT, 1),
    ]
    for number, (fault, method, path, version) in enumerate(kills):
        with Child(overwriting, uri, options, number) as writer:
            proxy.rule(fault, method, path, pid=writer.ready().pid)  # type: ignore[arg-type]
            writer.go()
            assert writer.wait() == -9
        table = DeltaTable(uri, storage_options=options)
        assert table.version() == version
        held = table.to_pyarrow_table()
        assert held.num_rows == (ROWS if version else 2)
        assert version or pc.sum(held["value"]).as_py() == 3
    assert client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    files = client.list_objects_v2(Bucket=bucket, Prefix="killed/day=")["Contents"]
    table = DeltaTable(uri, storage_options=options)
    live = {path.split(f"{bucket}/")[1] for path in table.file_uris()}
    dead = {entry["Key"] for entry in files} - live
    assert len(dead) >= 2, "the replaced file and the file of the writer killed at its commit stay until a vacuum"


# M13: types


def test_delta_silently_casts_an_int_to_a_string_column(uri: str, options: dict[str, str]) -> None:
    write_deltalake(uri, pa.table({"day": [DAY], "id": [7]}), mode="append", storage_options=options)
    assert ids(uri, options) == ["7", "seed0"]


@pytest.mark.parametrize("columns", [("day",), ("day", "id", "extra")])
def test_delta_refuses_a_missing_and_an_extra_column(
    uri: str, options: dict[str, str], columns: tuple[str, ...]
) -> None:
    table = pa.table({column: [DAY] for column in columns})
    with pytest.raises((SchemaMismatchError, DeltaError)):
        write_deltalake(uri, table, mode="append", storage_options=options)
    assert ids(uri, options) == ["seed0"]
