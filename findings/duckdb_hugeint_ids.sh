#!/usr/bin/env bash
# DuckDB writes HUGEINT to Parquet as DOUBLE, without a word. Its `sum` of integers is a HUGEINT, and so are whole numbers beyond
# 64 bits: ids made of them lose their last digits, different ids become one, and a reader sees numbers that look whole. Cast
# them to VARCHAR or DECIMAL(38, 0), which Parquet holds as they are.
#
# Expected: of three different ids two are left in the HUGEINT file, all three in the other. Exits 1 where that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet duckdb==1.4.4 pyarrow==25.0.1

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
