#!/usr/bin/env bash
# datatrove writes a corpus to Parquet with `ParquetWriter`, by the batch, and needs no schema. One would guess that the
# schema is that of the documents. It is that of the first document of a file; and the columns of each batch are the fields
# of the batch's first document, for so `RecordBatch.from_pylist` has it. A document without metadata has no such field, so:
#   - Where the first document has no metadata, the metadata of all others in its batch is dropped without a word. (With a
#     second batch that begins otherwise the writer raises.)
#   - Where a value of the metadata is null in the first document, or an integer there and a fraction later, the writer
#     raises ValueError at the end of the batch, 1,000 documents later by default; optional fields are often so.
# With `schema=` none of this happens, so it is to be given wherever metadata is not the same in every document.
#
# Expected: of four documents, the first without metadata, none has any in the file; with null first, or an integer first,
# ValueError; with a schema every row and value. Exits with 1 if that has changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'datatrove[io]==0.10.1' pyarrow==25.0.1

cd "$folder"
venv/bin/python - <<'PYTHON'
import importlib.metadata
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.data import Document
from datatrove.pipeline.writers import ParquetWriter
from loguru import logger

logger.remove()
print(f"datatrove {importlib.metadata.version('datatrove')}, pyarrow {pa.__version__}")


def written(name, *metadata, schema=None):
    try:
        with ParquetWriter(name, schema=schema) as writer:
            for number, each in enumerate(metadata):
                writer.write(Document(id=str(number), text="a text", metadata=each))
    except ValueError as error:
        print(f"{name}: ValueError, {str(error).partition(':')[0]}")
        return "ValueError"
    (file,) = Path(name).glob("*.parquet")
    rows = [row.get("metadata") for row in pq.read_table(file).to_pylist()]
    print(f"{name}: no error; metadata of the rows in the file: {rows}")
    return rows


SCHEMA = pa.schema({"text": pa.string(), "id": pa.string(), "metadata": pa.struct({"score": pa.float64()})})
found = [
    written("none first", {}, {"score": 0.5}, {"score": 0.25}, {"score": 1.0}),
    written("null first", {"score": None}, {"score": 0.5}),
    written("integer first", {"score": 1}, {"score": 0.5}),
    written("with a schema", {"score": None}, {"score": 0.5}, {"score": 1}, schema=SCHEMA),
]
expected = [[None] * 4, "ValueError", "ValueError", [{"score": None}, {"score": 0.5}, {"score": 1.0}]]
sys.exit(found != expected)
PYTHON
