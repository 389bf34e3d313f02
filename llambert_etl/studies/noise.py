"""Labels made wrong on purpose, and the errors that an annotator makes by itself."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from llambert_etl.errors import DataError

# (the right label, the wrong one) -> how often
Confusions = Mapping[tuple[str, str], float]


def uniform_errors(labels: Sequence[str], names: Sequence[str]) -> Confusions:
    """Return errors that may hit any row of `labels` and lead to any other of the task's `names`."""
    counts = Counter(labels)
    return {(right, wrong): float(counts[right]) for right in counts for wrong in names if right != wrong}


def annotator_errors(judged: pl.DataFrame) -> Confusions:
    """Count what an annotator says (`said`) where people say otherwise (`label`); refuse one that never errs."""
    wrong = judged.filter(pl.col("label") != pl.col("said"))
    if wrong.is_empty():
        raise DataError(
            f"mislabelling: the annotator is right on all of the {judged.height} gold documents that it was asked "
            "about, so its errors have no pattern to copy; study `uniform` flips, or let it annotate more gold"
        )
    return Counter(wrong.select("label", "said").iter_rows())


def flip(labels: Sequence[str], share: float, errors: Confusions, seed: int) -> list[str]:
    """Return the labels with `share` of them replaced, in proportion to `errors`; which ones, the seed decides.

    Exactly round(share * n) rows are flipped. Raise DataError where the labels that err are too rare for so many.
    """
    generator = np.random.default_rng(seed)
    counts, wanted = Counter(labels), round(share * len(labels))
    flipped, taken = list(labels), Counter[str]()
    rows = {label: generator.permutation([i for i, own in enumerate(labels) if own == label]) for label in counts}
    for (right, wrong), quota in _quotas(errors, wanted).items():
        start = taken[right]
        if start + quota > counts[right]:
            raise DataError(
                f"mislabelling: {share:.0%} wrong labels in the annotator's proportions are more {right!r} rows than "
                f"the {counts[right]} there are; take smaller shares"
            )
        for row in rows.get(right, [])[start : start + quota]:
            flipped[int(row)] = wrong
        taken[right] += quota
    return flipped


def _quotas(weights: Confusions, wanted: int) -> dict[tuple[str, str], int]:
    """Cut `wanted` into whole numbers in proportion to the weights, by largest remainder."""
    total = sum(weights.values())
    exact = {pair: wanted * weight / total for pair, weight in weights.items()}
    whole = {pair: int(share) for pair, share in exact.items()}
    rest = sorted(exact, key=lambda pair: (whole[pair] - exact[pair], pair))[: wanted - sum(whole.values())]
    return {pair: count + (pair in rest) for pair, count in whole.items()}
