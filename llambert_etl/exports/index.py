"""The labels of a day by the hash of their ids, in scratch files: ten million take no more memory than a few."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from llambert_etl.errors import DataError
from llambert_etl.lake import stream
from llambert_etl.store.space import room_in

# Rows at a time, and of a row group: a text may be long.
CHUNK_ROWS = 1 << 14
_KIND: Final = pl.Schema({"label": pl.String, "model_name": pl.String, "model_version": pl.Int64})
# Of ten million ids two have one hash of 64 bits in three of a million tries.
_TRIES = 3

Array = npt.NDArray[Any]


class LabelIndex:
    """Labels in which documents are looked up. It knows which of them were found."""

    def __init__(self, labels: pl.LazyFrame, rows: int, scratch: Path) -> None:
        """Read `rows` labels: id, text_hash, label, confidence, model_name, model_version."""
        self._labels, self._rows = labels, rows
        with room_in(scratch):
            for self._seed in range(_TRIES):
                self._kinds = pl.DataFrame(schema=_KIND)
                self._ids, self._held = self._sorted(_in_file(self._read(), scratch), scratch)
                if (self._ids[1:] > self._ids[:-1]).all():
                    break
            else:
                raise DataError("an id has more than one label; see the runbook, `restore a table`")
        self._found = np.zeros(rows, dtype=bool)

    def labelled(self, documents: pl.LazyFrame, rows: int) -> Iterator[pl.DataFrame]:
        """Yield those of `rows` documents (id, text, text_hash) whose very text has a label, with it."""
        for frame in stream(self._hashed(documents), rows, CHUNK_ROWS):
            places = self._places(frame)
            same = self._ids[places] == frame["id_key"].to_numpy()
            texts, confidences, kinds = self._held.take(places, axis=0).T
            same &= texts == frame["text_key"].to_numpy()
            self._found[places[same]] = True
            confidence = pl.Series(confidences[same].view("f8")).fill_nan(None)
            said = self._kinds[kinds[same]].with_columns(confidence=confidence)
            yield frame.select("id", "text", "text_hash").filter(pl.Series(same)).hstack(said)

    def others(self) -> Iterator[pl.DataFrame]:
        """Yield the labels that no document was found for, without a text; where there are none, nothing is read."""
        if not self._found.all():
            for frame in stream(self._hashed(self._labels), self._rows, CHUNK_ROWS):
                rest = frame.filter(pl.Series(~self._found[self._places(frame)]))
                yield rest.drop("id_key", "text_key").with_columns(text=pl.lit(None, pl.String))

    def _hashed(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        seed = self._seed
        return rows.with_columns(
            pl.col("id").hash(seed).alias("id_key"), pl.col("text_hash").hash(seed).alias("text_key")
        )

    def _read(self) -> Iterator[Array]:
        for frame in stream(self._hashed(self._labels), self._rows, CHUNK_ROWS):
            said = frame.select(_KIND.names())
            new = said.unique().join(self._kinds, on=said.columns, how="anti", nulls_equal=True)
            self._kinds = pl.concat([self._kinds, new])
            kinds = self._kinds.with_row_index("kind")
            kind = said.join(kinds, on=said.columns, how="left", nulls_equal=True, maintain_order="left")["kind"]
            columns = frame["id_key"], frame["text_key"], frame["confidence"].to_numpy().view("u8"), kind
            yield np.column_stack([np.asarray(column, dtype="u8") for column in columns])

    def _sorted(self, rows: Array, scratch: Path) -> tuple[Array, Array]:
        order = np.argsort(rows[:, 0])
        parts = [order[start : start + CHUNK_ROWS] for start in range(0, len(order), CHUNK_ROWS)]
        ids = _in_file((rows[part, :1] for part in parts), scratch)
        return ids[:, 0], _in_file((rows.take(part, axis=0)[:, 1:] for part in parts), scratch)

    def _places(self, frame: pl.DataFrame) -> Array:
        """Return where each row's label is, if it has one."""
        ids = frame["id_key"].to_numpy()
        order, places = np.argsort(ids), np.empty(len(ids), dtype=np.intp)
        places[order] = np.searchsorted(self._ids, ids[order])  # in order, so that each page is looked at once
        return np.minimum(places, self._rows - 1)


def _in_file(parts: Iterable[Array], folder: Path) -> Array:
    """Return numbers of 64 bits end to end, in a file without a name, whose pages the kernel may take back."""
    with tempfile.TemporaryFile(dir=folder) as file:
        wide = {part.shape[1] for part in parts if file.write(np.ascontiguousarray(part).data)}
        file.flush()
        return np.memmap(file, "u8", mode="r").reshape(-1, *wide)
