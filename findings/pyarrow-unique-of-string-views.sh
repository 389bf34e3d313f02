#!/usr/bin/env bash
# String views are what polars gives Arrow for its strings with `to_arrow(compat_level=CompatLevel.newest())`, without a copy.
# pyarrow's compute functions know few of them yet and say so: equal, take, is_in, sort and group_by raise. One would guess
# that what does not raise is right. `unique` and `value_counts` return the null as an empty string, without validity; a
# column with both a null and an empty string comes back with two empty ones, each counted for itself, so the "unique" values
# are not. `null_count` of the very column is right, `dictionary_encode` keeps the null, and so do both functions for string
# and large_string. So a check such as "no value but this one", or a count of rows without a text, goes by polars or by a
# cast to string.
#
# Expected: for string views `unique` gives ['a', '', ''] and `value_counts` two entries for '', where string and large_string
# give ['a', None, '']. Exits with 1 if that has changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==25.0.1 polars==2.1.0

cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

print(f"pyarrow {pa.__version__}, polars {pl.__version__}")
column = pl.Series("text", ["a", None, "a", "", None])
found = {}
for kind in (pa.string(), pa.large_string(), pa.string_view()):
    if kind == pa.string_view():
        values = column.to_arrow(compat_level=pl.CompatLevel.newest())
        assert values.type == kind, values.type
    else:
        values = column.to_arrow().cast(kind)
    unique = pc.unique(values).to_pylist()
    counts = [(each["values"], each["counts"]) for each in pc.value_counts(values).to_pylist()]
    encoded = values.dictionary_encode().to_pylist()
    found[str(kind)] = (unique, counts)
    print(f"{kind}: {values.null_count} nulls; unique {unique}; value_counts {counts}; dictionary {encoded}")
right = (["a", None, ""], [("a", 2), (None, 2), ("", 1)])
wrong = (["a", "", ""], [("a", 2), ("", 2), ("", 1)])
sys.exit(found != {"string": right, "large_string": right, "string_view": wrong})
PYTHON
