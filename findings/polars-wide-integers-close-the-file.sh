#!/usr/bin/env bash
# Polars makes an Int128 of Python integers that no 64 bits hold, unasked: `DataFrame({"id": [2**64]})` is enough, and keys of
# twenty digits are common. Parquet has no such integer. One would guess that `write_parquet` refuses the column, or writes
# decimal(38,0), or that a reader who does not know it can at least read the others. It writes sixteen plain bytes a value,
# least significant first, and says what they are only in the Arrow schema that it embeds, as an integer of 128 bits, which
# Arrow has not. Polars reads that back. DuckDB shows bytes. pyarrow opens the file for nothing: neither its metadata nor any
# other column can be read. As decimal(38,0) the same numbers are read by all three.
#
# Expected: polars infers Int128 and reads its own file; DuckDB says BLOB and reads the other column; pyarrow refuses the
# metadata and the other column with "more than 64 bits"; decimals are read by pyarrow. Exits with 1 if that has changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check polars==2.1.0 pyarrow==25.0.1 duckdb==2.0.1

cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import duckdb
import polars as pl
import pyarrow
import pyarrow.parquet as pq

print(f"polars {pl.__version__}, pyarrow {pyarrow.__version__}, duckdb {duckdb.__version__}")
keys = [2**64, 2**64 + 1, 7]
frame = pl.DataFrame({"id": keys, "text": ["a", "b", "c"]})
inferred = str(frame.schema["id"])
frame.write_parquet("wide.parquet")
frame.with_columns(pl.col("id").cast(pl.Decimal(38, 0))).write_parquet("decimal.parquet")

own = pl.read_parquet("wide.parquet")["id"].to_list() == keys
kind = duckdb.sql("DESCRIBE FROM 'wide.parquet'").fetchall()[0][1]
texts = [row[0] for row in duckdb.sql("SELECT text FROM 'wide.parquet'").fetchall()]
print(f"polars: a column of {inferred}, its own file read back alike: {own}")
print(f"DuckDB: id is {kind}, text {texts}")

refused = []
for what, read in {
    "metadata": lambda: pq.read_metadata("wide.parquet"),
    "the text column alone": lambda: pq.read_table("wide.parquet", columns=["text"]),
}.items():
    try:
        read()
        print(f"pyarrow, {what}: read")
    except pyarrow.ArrowNotImplementedError as error:
        print(f"pyarrow, {what}: {error}")
        refused.append("more than 64 bits" in str(error))
decimals = [int(value) for value in pq.read_table("decimal.parquet")["id"].to_pylist()]
print(f"pyarrow, the same as decimal(38,0): {decimals}")
told = inferred == "Int128" and own and kind == "BLOB" and texts == ["a", "b", "c"]
sys.exit(not (told and refused == [True, True] and decimals == keys))
PYTHON
