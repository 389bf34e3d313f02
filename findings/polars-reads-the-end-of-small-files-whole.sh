#!/usr/bin/env bash
# polars over many small Parquet files: how much is read to look at one column of each?
#
# One would guess: the footer, of a few KB, and the column. polars reads the last 256 KiB of each file first, of local ones too,
# in case the footer is as long: of files that are no larger than that it reads every byte, texts and all. A table with a file a
# day costs 94 MB a year to count the values of one column, whose pages are a few KB in all. The variable
# POLARS_CLOUD_FOOTER_READ_SIZE sets another size; it is looked at once in a process.
#
# Exits with 1 if that has changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "polars==2.1.0" "pyarrow==25.0.1"

cat > "$folder/try.py" <<'PYTHON'
"""Print how many KB are read to count the values of one column of 40 files: `try.py FOLDER`."""

import random
import sys
from pathlib import Path

import polars as pl

folder = Path(sys.argv[1])
if not folder.exists():
    folder.mkdir()
    dice = random.Random(1)
    for number in range(40):
        texts = [dice.randbytes(500).hex() for _ in range(1000)]
        pl.DataFrame({"text": texts, "status": ["accepted"] * 1000}).write_parquet(folder / f"{number}.parquet")


def read():
    return int(Path("/proc/self/io").read_text().split()[1])


before = read()
counted = pl.scan_parquet(folder / "*.parquet").group_by("status").len().collect()
assert counted.rows() == [("accepted", 40_000)], counted
print((read() - before) // 1024)
PYTHON

python=$folder/venv/bin/python
"$python" -c 'import polars; print("polars", polars.__version__)'
"$python" "$folder/try.py" "$folder/files" > /dev/null
large=$("$python" "$folder/try.py" "$folder/files")
small=$(POLARS_CLOUD_FOOTER_READ_SIZE=16384 "$python" "$folder/try.py" "$folder/files")
echo "one column of 40 files: $large KB read; with ends of 16 KiB: $small KB"
if (( large < 40 * 200 || small > 40 * 32 )); then
    echo "polars reads otherwise now"
    exit 1
fi
