#!/usr/bin/env bash
# deltalake's `WriterProperties(column_properties=...)` does not reach a column within another: a setting for
# `scores.list.element.value`, as Parquet and every reader name it, is taken without a word and changes nothing, while one
# for a column of the top level does. Compaction then undoes what the files were written with: doubles that pyarrow had
# split by bytes come back as a dictionary of as many values as there are rows, in far more bytes.
#
# Expected: the setting is followed, as pyarrow's `column_encoding` does for the same name, or the name is refused.
# `default_column_properties` is the only way to a nested column, and holds for all of them.
# Exits with 1 if that has changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check deltalake==1.6.6 pyarrow==25.0.1

cat >"$folder/look.py" <<'PYTHON'
import os
import random
import sys

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import ColumnProperties, DeltaTable, WriterProperties, write_deltalake

NESTED, TOP = "scores.list.element.value", "best"
draw = random.Random(1)
values = [round(draw.random() * 2**16) / 2**16 for _ in range(20_000)]
scores = pa.array(
    [[{"value": value}] for value in values], pa.list_(pa.field("element", pa.struct([("value", pa.float64())])))
)
rows = pa.table({TOP: values, "scores": scores})


def encodings(file: str) -> dict[str, tuple[str, ...]]:
    group = pq.read_metadata(file).row_group(0)
    return {group.column(each).path_in_schema: group.column(each).encodings for each in range(group.num_columns)}


def rewritten(properties: WriterProperties) -> dict[str, tuple[str, ...]]:
    uri = os.path.join(sys.argv[1], f"table-{draw.random()}")
    for _ in range(2):
        write_deltalake(uri, rows, mode="append")
    DeltaTable(uri).optimize.compact(writer_properties=properties)
    (file,) = DeltaTable(uri).file_uris()
    return encodings(file)


split = ColumnProperties(dictionary_enabled=False, encoding="BYTE_STREAM_SPLIT")
by_name = rewritten(WriterProperties(column_properties={TOP: split, NESTED: split}))
by_default = rewritten(WriterProperties(default_column_properties=split))
plain = os.path.join(sys.argv[1], "pyarrow.parquet")
both = {TOP: "BYTE_STREAM_SPLIT", NESTED: "BYTE_STREAM_SPLIT"}
pq.write_table(rows, plain, use_dictionary=False, column_encoding=both)
seen = {
    "pyarrow, by name: nested": "BYTE_STREAM_SPLIT" in encodings(plain)[NESTED],
    "deltalake, by name: top level": "BYTE_STREAM_SPLIT" in by_name[TOP],
    "deltalake, by name: nested": "BYTE_STREAM_SPLIT" in by_name[NESTED],
    "deltalake, by name: nested is a dictionary all the same": "RLE_DICTIONARY" in by_name[NESTED],
    "deltalake, by default: nested": "BYTE_STREAM_SPLIT" in by_default[NESTED],
}
expected = [True, True, False, True, True]
print(f"deltalake {deltalake.__version__}, pyarrow {pa.__version__}, python {sys.version.split()[0]}")
for what, found in seen.items():
    print(f"{what}: {found}")
if list(seen.values()) != expected:
    sys.exit(f"the behaviour has changed: expected {expected}")
PYTHON
"$folder/venv/bin/python" "$folder/look.py" "$folder"
