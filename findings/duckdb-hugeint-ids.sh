#!/usr/bin/env bash
# DuckDB's `sum` of integers is a HUGEINT, and so are whole numbers beyond 64 bits. One would guess that a COPY to Parquet
# keeps them as DECIMAL(38, 0), which holds every HUGEINT but the largest, or refuses them. It writes DOUBLE, without a
# word: ids lose their last digits, different ids become one, and a reader sees numbers that look whole.
#
# Expected: of three different ids two are left in the file, and all three where they are cast to DECIMAL(38, 0) first.
# Exits with 1 if that has changed.
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
ids = "SELECT sum(9007199254740992 + i) AS id FROM range(3) t(i) GROUP BY i"
print("type of the ids in DuckDB:", duckdb.sql(ids).types[0])
left = {}
for name, query in {"as it is": ids, "cast": f"SELECT id::DECIMAL(38, 0) AS id FROM ({ids})"}.items():
    duckdb.execute(f"COPY ({query}) TO 'ids.parquet' (FORMAT parquet)")
    column = pq.read_table("ids.parquet")["id"]
    left[name] = len(column.unique())
    print(f"{name}: {column.type}, {column.to_pylist()}, {left[name]} of 3 different ids are left")
sys.exit(left["as it is"] == 3 or left["cast"] != 3)
PYTHON
