"""The ids of one drop: the first document with an id wins."""

import numpy as np
import numpy.typing as npt
import polars as pl

from llambert_etl.sources.records import Reason

Words = npt.NDArray[np.uint64]

_SEEDS = (1, 2)
_PARTS = 16
_TEXT_BITS = np.uint64(40)
_TEXT = np.uint64((1 << 40) - 1)
_SAID = pl.Series([None, Reason.DUPLICATE, Reason.ID_CONFLICT], dtype=pl.String)


def first_word(text_hashes: pl.Series) -> Words:
    """Return the first 64 bits of hashes in hexadecimal."""
    words: Words = text_hashes.str.slice(0, 16).str.to_integer(base=16, dtype=pl.UInt64).to_numpy()
    return words


class SeenIds:
    """Holds 16 bytes of each id, whatever its length: 88 bits of its hash, and 40 of its text's.

    Ids are looked up by the first `bits` of the hash. One that has these in common with another is held apart.
    """

    def __init__(self, bits: int = 64) -> None:
        self._beyond = np.uint64(64 - bits)
        self._parts = [_Part() for _ in range(_PARTS)]
        self._apart: dict[tuple[int, int], int] = {}

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self._parts)

    def claim(self, ids: pl.Series, text_hashes: pl.Series) -> pl.Series:
        """Take ids, the first one first; null for each that was free, else the reason: what it is to its holder."""
        if ids.is_empty():
            return _SAID.clear()
        keys = ids.hash(_SEEDS[0]).to_numpy() >> self._beyond << self._beyond
        rests = ids.hash(_SEEDS[1]).to_numpy() & ~_TEXT | first_word(text_hashes) & _TEXT
        order = np.argsort(keys)
        firsts = np.flatnonzero(np.append(True, np.diff(keys[order])))
        if len(firsts) < len(keys):  # only then the order of equals matters, which takes ten times as long
            order = np.argsort(keys, kind="stable")
        keys, rests = keys[order], rests[order]
        free, holders = self._taken(keys[firsts], rests[firsts])
        held = np.repeat(holders, np.diff(np.append(firsts, len(keys))))
        said = np.where((held ^ rests) & _TEXT, 2, 1)
        said[firsts[free]] = 0
        other = held >> _TEXT_BITS != rests >> _TEXT_BITS
        for row in np.flatnonzero(other)[np.argsort(order[other])]:
            said[row] = self._claim_apart(int(keys[row]), int(rests[row]))
        back = np.empty_like(said)
        back[order] = said
        return _SAID.gather(pl.Series(back))

    def _taken(self, keys: Words, rests: Words) -> tuple[npt.NDArray[np.bool_], Words]:
        """Take the keys that are free, and return which those are, and what each key's holder is."""
        bounds = np.searchsorted(keys, np.arange(_PARTS, dtype=np.uint64) << np.uint64(60))
        free = np.ones(len(keys), dtype=bool)
        holders = rests.copy()
        for part, start, end in zip(self._parts, bounds, [*bounds[1:], len(keys)], strict=True):
            part.take(keys[start:end], free[start:end], holders[start:end])
        return free, holders

    def _claim_apart(self, key: int, rest: int) -> int:
        place, text = (key, rest >> int(_TEXT_BITS)), rest & int(_TEXT)
        if place not in self._apart:
            self._apart[place] = text
            return 0
        return 1 if self._apart[place] == text else 2


class _Part:
    """Sorted runs of keys, each at least twice as long as the next: a key is moved as often as the logarithm grows."""

    def __init__(self) -> None:
        self._runs: list[Words] = []

    @property
    def nbytes(self) -> int:
        return sum(run.nbytes for run in self._runs)

    def take(self, keys: Words, free: npt.NDArray[np.bool_], holders: Words) -> None:
        """Say in `free` and `holders` which of the sorted keys have a holder, and who; add the others."""
        for known, rests in self._runs:
            at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
            found = known[at] == keys
            free[found] = False
            holders[found] = rests[at[found]]
        if free.any():
            self._runs.append(np.stack([keys[free], holders[free]]))
        while len(self._runs) > 1 and self._runs[-2].shape[1] < 2 * self._runs[-1].shape[1]:
            both = np.concatenate([self._runs.pop(), self._runs.pop()], axis=1)
            self._runs.append(both[:, np.argsort(both[0])])
