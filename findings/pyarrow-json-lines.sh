#!/usr/bin/env bash
# pyarrow.json.read_json without `newlines_in_values`: is a row of the table a line of the file?
#
# One would guess: yes, since the documentation calls the format line-delimited JSON and `newlines_in_values=False`, the default,
# says that no value goes beyond its line. But an object that is spread over lines is a row, two objects in one line are two rows,
# and nothing is said of either. So the n-th row need not be the n-th line, even where there are as many rows as lines: what is
# put beside the table by line number (a second file, labels, the place of an error) silently stands beside another record.
# Python's json, given each line, refuses all three lines below.
#
# Exits with 1 if that has changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pyarrow==25.0.1"

"$folder/venv/bin/python" - <<'PYTHON'
import io
import json

import pyarrow as pa
import pyarrow.json

print("pyarrow", pa.__version__)
lines = [b'{"id": 1}{"id": 2}', b'{"id":', b"3}"]
refused = 0
for line in lines:
    try:
        json.loads(line)
    except ValueError:
        refused += 1
options = pyarrow.json.ParseOptions(newlines_in_values=False)
rows = pyarrow.json.read_json(io.BytesIO(b"\n".join(lines)), parse_options=options).to_pylist()
print(f"{len(lines)} lines, of which json refuses {refused}; rows of pyarrow: {rows}")
assert refused == 3
assert rows == [{"id": 1}, {"id": 2}, {"id": 3}], "a row is a line"
PYTHON
