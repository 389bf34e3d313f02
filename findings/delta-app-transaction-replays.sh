#!/usr/bin/env bash
# delta-rs keeps an application transaction (Delta's `txn` action: "this application has written up to version N"), and
# shows it by `DeltaTable.transaction_version`, but it does not compare it on a later write. The Delta protocol has this
# action to make writes idempotent, and a good engineer would guess that an append with a version that the table holds
# already is refused, or does nothing.
#
# Expected, and surprising:
# - an append with the same application and version adds its rows again;
# - an append with a lower version is committed too, and takes the recorded version back;
# - only writers that began from the same table version conflict: there the second is refused.
# So a writer has to look at `transaction_version` itself before it writes. Exits with 1 if that has changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check deltalake==1.6.6 pyarrow==25.0.1
"$folder/venv/bin/python" - "$folder/table" <<'PYTHON'
import sys

import deltalake
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import CommitProperties, Transaction

place, rows = sys.argv[1], pa.table({"x": [1]})
write_deltalake(place, rows)


def append(version, table=place):
    fenced = CommitProperties(app_transactions=[Transaction("nightly job", version)])
    write_deltalake(table, rows, mode="append", commit_properties=fenced)


def seen():
    table = DeltaTable(place)
    return table.to_pyarrow_table().num_rows, table.transaction_version("nightly job")


print(f"deltalake {deltalake.__version__}, pyarrow {pa.__version__}")
append(7)
first = seen()
print(f"appended as version 7: {first[0]} rows, recorded version {first[1]}")
append(7)
again = seen()
print(f"appended as version 7 once more: {again[0]} rows, recorded version {again[1]}")
append(3)
lower = seen()
print(f"appended as version 3: {lower[0]} rows, recorded version {lower[1]}")
one, two = DeltaTable(place), DeltaTable(place)
append(8, one)
try:
    append(8, two)
    raced = "committed"
except CommitFailedError:
    raced = "refused"
print(f"two writers of version 8 that began from one table version: the second is {raced}")
expected = ((2, 7), (3, 7), (4, 3), "refused")
if (first, again, lower, raced) != expected:
    sys.exit(f"this has changed: expected {expected}, saw {(first, again, lower, raced)}")
print("as expected: the recorded version is no guard against a replay")
PYTHON
