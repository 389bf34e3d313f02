#!/usr/bin/env bash
# pyarrow reads a string column as a dictionary (`read_dictionary`, the usual way to hold repeated texts once). One would
# guess that the option changes what the column is in memory, and not which files can be read: pages may be plain or
# dictionary-encoded. But where they are delta-encoded it raises OSError "Not yet implemented", for a valid file that the
# same reader reads without the option. DuckDB writes such pages as soon as it is asked for `PARQUET_VERSION v2`, and no
# field of the schema tells. A reader that takes OSError for a damaged file then refuses a sound one.
#
# Expected: v1 is read both ways; v2 is read without `read_dictionary`, and raises OSError with it. Exits with 1 if that
# has changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==1.4.4 pyarrow==25.0.1

cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import duckdb
import pyarrow
import pyarrow.parquet as pq

print(f"duckdb {duckdb.__version__}, pyarrow {pyarrow.__version__}")
seen = {}
for version in ("v1", "v2"):
    query = "SELECT 'document ' || i AS text FROM range(200000) t(i)"
    duckdb.execute(f"COPY ({query}) TO '{version}.parquet' (FORMAT parquet, PARQUET_VERSION {version})")
    encodings = pq.read_metadata(f"{version}.parquet").row_group(0).column(0).encodings
    for columns in ([], ["text"]):
        try:
            outcome = str(pq.read_table(f"{version}.parquet", read_dictionary=columns).num_rows)
        except OSError as error:
            outcome = f"OSError: {error}"
        seen[version, bool(columns)] = outcome
        print(f"{version} {encodings} read_dictionary={columns}: {outcome}")
read = {key for key, outcome in seen.items() if outcome == "200000"}
sys.exit(read != {("v1", False), ("v1", True), ("v2", False)} or "Not yet implemented" not in seen["v2", True])
PYTHON
