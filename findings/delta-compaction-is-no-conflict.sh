#!/usr/bin/env bash
# deltalake (delta-rs) takes a compaction for no conflict of two kinds of commit that were begun before it:
#
# 1. Another compaction. Two `optimize.compact()` at once, say of a weekly job and of its retry, both commit, and from then
#    on every row of what they merged is in the table twice. `commit_properties` do not help: neither an application
#    transaction nor `max_commit_retries=0` reaches the commit of a compaction.
# 2. `create_write_transaction(..., mode="overwrite", partition_filters=...)`, which commits files that are written already
#    and removes those of a partition. Rebased after a compaction it removes the small files, which are gone anyway, and
#    leaves the merged one: the partition holds the rows of before beside those that were to replace them.
#    (`write_deltalake(mode="overwrite", predicate=...)` does raise CommitFailedError there.) `max_commit_retries=0` helps.
#
# Expected: compaction is a rewrite of the same rows, so a good engineer takes it for safe beside itself and beside writers.
# Exits with 1 if that has changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check deltalake==1.6.6 pyarrow==25.0.1

cat >"$folder/look.py" <<'PYTHON'
import json
import os
import sys

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction


def table(name: str) -> str:
    """Three small files in one partition, a row each."""
    uri = os.path.join(sys.argv[1], name)
    for number in range(3):
        write_deltalake(uri, pa.table({"day": ["a"], "id": [number]}), partition_by=["day"], mode="append")
    return uri


def ids(uri: str) -> list[int]:
    return sorted(DeltaTable(uri).to_pyarrow_table()["id"].to_pylist())


def two_compactions(name: str, properties: CommitProperties | None) -> list[int]:
    uri = table(name)
    first, second = DeltaTable(uri), DeltaTable(uri)  # both have read the table before either commits
    first.optimize.compact(commit_properties=properties)
    second.optimize.compact(commit_properties=properties)
    return ids(uri)


def replaced_beside_compaction(name: str, retries: int | None) -> list[int]:
    uri = table(name)
    writer = DeltaTable(uri)
    DeltaTable(uri).optimize.compact()
    file = os.path.join(uri, "day=a", "new.parquet")
    pq.write_table(pa.table({"id": [100]}), file)
    add = AddAction("day=a/new.parquet", os.path.getsize(file), {"day": "a"}, 0, True, json.dumps({"numRecords": 1}))
    schema, by = writer.schema(), [("day", "=", "a")]
    properties = CommitProperties(max_commit_retries=retries)
    writer.create_write_transaction([add], "overwrite", schema, ["day"], by, commit_properties=properties)
    return ids(uri)


def refused(action, *arguments) -> bool:
    try:
        action(*arguments)
    except CommitFailedError:
        return True
    return False


def plain_overwrite() -> None:
    uri = table("plain")
    writer = DeltaTable(uri)
    DeltaTable(uri).optimize.compact()
    write_deltalake(writer, pa.table({"day": ["a"], "id": [100]}), mode="overwrite", predicate="day = 'a'")


fence = CommitProperties(app_transactions=[Transaction("compaction", 1)], max_commit_retries=0)
seen = {
    "rows after two compactions at once": two_compactions("two", None),
    "the same with a fence and without retries": two_compactions("fenced", fence),
    "rows after a partition was replaced beside a compaction": replaced_beside_compaction("replaced", None),
    "the same without retries is refused": refused(replaced_beside_compaction, "once", 0),
    "write_deltalake with a predicate is refused": refused(plain_overwrite),
}
expected = [[0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2], [0, 1, 2, 100], True, True]
print(f"deltalake {deltalake.__version__}, pyarrow {pa.__version__}, python {sys.version.split()[0]}")
for what, found in seen.items():
    print(f"{what}: {found}")
if list(seen.values()) != expected:
    sys.exit(f"the behaviour has changed: expected {expected}")
PYTHON
"$folder/venv/bin/python" "$folder/look.py" "$folder"
