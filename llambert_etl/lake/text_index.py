"""Which files of a table have rows about given texts, told without reading the table.

Beside each file lies the sorted beginning of each of its text hashes, in about three bytes a row: made when it is first
asked for, by whoever asks, and always the same. What it names is looked up in the file itself by the whole hash.
"""

import io
from collections.abc import Iterable, Sequence

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from llambert_etl.errors import DataError
from llambert_etl.lake.layout import file_schema
from llambert_etl.lake.opening import ReadableLake
from llambert_etl.lake.reading import collect, scan_files
from llambert_etl.schemas import TableName

FOLDER = "_hashes"
# Hexadecimal digits, 40 bits: 10,000 texts against 10^7 rows name one row in vain every tenth time.
_DIGITS = 10
_BEGINNING = pl.col("text_hash").str.slice(0, _DIGITS).str.to_integer(base=16, strict=False).alias("beginning")


def scan_texts(lake: ReadableLake, table: TableName, task: str, files: Sequence[str], texts: pl.Series) -> pl.LazyFrame:
    """Return the rows of these files that are about texts with one of the hashes; files that have none are not read."""
    indexed = _indexed(lake, table, task, files)
    wanted = pl.DataFrame({"text_hash": texts}).select("text_hash", _BEGINNING)
    nothing = pl.LazyFrame(pl.from_arrow(file_schema(table).empty_table()))
    if not indexed or wanted.is_empty():
        return nothing
    try:
        hits = _hits(lake, indexed, wanted)
    except DataError:  # one is damaged, or upkeep has deleted those of files that it has merged meanwhile
        hits = _hits(lake, _indexed(lake, table, task, files, anew=True), wanted)
    by_file = hits.join(wanted, on="beginning").group_by("index").agg(own=pl.col("text_hash").sort()).sort("index")
    rows = [
        scan_files([f"{lake.table_uri(table)}/{indexed[index]}"], lake.polars_options)
        # By a list of values polars skips no row group, by a range it does.
        .filter(pl.col("text_hash").is_between(pl.lit(own[0]), pl.lit(own[-1])))
        .filter(pl.col("text_hash").is_in(own))
        .select(file_schema(table).names)
        for index, own in by_file.rows()
    ]
    return pl.concat([nothing, *rows])


def _hits(lake: ReadableLake, indexed: Iterable[str], wanted: pl.DataFrame) -> pl.DataFrame:
    found = scan_files(list(indexed), lake.polars_options, whose="index")
    return collect(found.filter(pl.col("beginning").is_in(wanted["beginning"].implode())), engine="streaming")


def _indexed(
    lake: ReadableLake, table: TableName, task: str, files: Sequence[str], *, anew: bool = False
) -> dict[str, str]:
    """Return the file that each index is of; make what is not there yet, or all of them `anew`."""
    there = set() if anew else {info.base_name for info in lake.storage.list(f"{FOLDER}/{table}/{task}")}
    found = {}
    for file in files:
        name = file.rpartition("/")[2]
        key = f"{FOLDER}/{table}/{task}/{name}"
        if name not in there:
            lake.storage.write(key, [_index(lake, f"{lake.table_uri(table)}/{file}")])
        found[f"{lake.uri}/{key}"] = file
    return found


def _index(lake: ReadableLake, uri: str) -> bytes:
    beginnings = collect(scan_files([uri], lake.polars_options).select(_BEGINNING.drop_nulls().unique().sort()))
    out = io.BytesIO()
    pq.write_table(
        pa.table({"beginning": beginnings["beginning"].to_arrow()}),
        out,
        use_dictionary=False,
        column_encoding={"beginning": "DELTA_BINARY_PACKED"},
    )
    return out.getvalue()
