"""The learning curve: a power law through measured accuracies, and how many labels are enough."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

_RESAMPLES = 200
# Half a doubling: the accuracies of sizes that are closer tell seeds apart, not sizes.
APART = math.sqrt(2)
_LEAST_SPREAD = 1e-3  # of accuracy: what a thousand test rows can tell apart at all
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """error(n) = floor + scale * n ** -slope, with n in labels; the usual shape (Hestness et al., arXiv:1712.00409)."""

    floor: float
    scale: float
    slope: float

    def accuracy(self, rows: float) -> float:
        return float(1.0 - self.floor - self.scale * rows**-self.slope)

    def gain_of_doubling(self, rows: float) -> float:
        return self.accuracy(2 * rows) - self.accuracy(rows)

    def enough(self, worth: float) -> float:
        """Return the number of labels from which on twice as many gain less than `worth`."""
        once = self.scale * (1.0 - 2.0**-self.slope)
        return 0.0 if once <= worth else float((once / worth) ** (1.0 / self.slope))


@dataclass(frozen=True)
class Advice:
    """How many labels are `enough`, and between which numbers that is; None: more than the largest size measured.

    `gain` is the accuracy that doubling the largest size should bring, `gained` what the last doubling before it did.
    With one of the `seeds` alone `low` and `high` say nothing.
    """

    enough: int | None
    low: int | None
    high: int | None
    largest: int
    gain: float
    gained: float
    seeds: int


def fit(measured: Mapping[int, Sequence[float] | _Floats]) -> Curve:
    """Fit the curve to the accuracies of each size, one for each seed; where seeds disagree, a size counts for less."""
    rows = np.asarray(sorted(measured), dtype=np.float64)
    errors = 1.0 - np.asarray([np.mean(measured[int(row)]) for row in rows])
    spreads = np.asarray([np.std(measured[int(row)]) for row in rows])
    weights = 1.0 / np.maximum(spreads, max(float(np.median(spreads)), _LEAST_SPREAD))
    first = float(rows[0])

    def residuals(found: _Floats) -> _Floats:
        floor, scale, slope = found
        return np.asarray((floor + scale * (rows / first) ** -slope - errors) * weights)

    lowest, highest = float(errors.min()), float(errors.max())
    start = (lowest * 0.9, max(highest - lowest, 1e-4), 0.5)
    found = least_squares(residuals, start, bounds=((0.0, 0.0, 0.05), (1.0, 1.0, 2.0)), x_scale=(0.01, 0.01, 0.1)).x
    floor, scale, slope = (float(value) for value in found)
    return Curve(floor, scale * first**slope, slope)


def advise(measured: Mapping[int, Sequence[float]], worth: float, seed: int = 0) -> Advice | None:
    """Say how many labels are enough, from the accuracies of each size; None with too few sizes for a curve.

    That is where the curve says that doubling gains less than `worth`, but never before the measurements say so too.
    Between `low` and `high` lie 90 % of what comes out when the seeds of each size are drawn again with replacement.
    """
    largest = max(measured)
    smaller = _smaller(measured, largest)
    if len(measured) < 3 or not smaller:
        return None
    generator = np.random.default_rng(seed)
    drawn = [
        _enough({rows: generator.choice(values, len(values)) for rows, values in measured.items()}, worth)
        for _ in range(_RESAMPLES)
    ]
    low, high = np.quantile(drawn, (0.05, 0.95), method="nearest")
    last = float(np.mean(measured[largest]) - np.mean(measured[smaller[-1]]))
    return Advice(
        enough=_whole(_enough(measured, worth), largest),
        low=_whole(float(low), largest),
        high=_whole(float(high), largest),
        largest=largest,
        gain=fit(measured).gain_of_doubling(largest),
        gained=last / math.log2(largest / smaller[-1]),
        seeds=max(len(values) for values in measured.values()),
    )


def _enough(measured: Mapping[int, Sequence[float] | _Floats], worth: float) -> float:
    paid = _last_that_paid(measured, worth)
    return math.inf if paid == max(measured) else max(fit(measured).enough(worth), paid, min(measured))


def _last_that_paid(measured: Mapping[int, Sequence[float] | _Floats], worth: float) -> int:
    """Return the largest size that was better than all smaller ones by more than `worth` a doubling; 0 for none."""
    means, paid = {rows: float(np.mean(measured[rows])) for rows in sorted(measured)}, 0
    for rows, mean in means.items():
        smaller = _smaller(means, rows)
        if smaller and mean - max(means[size] for size in smaller) > worth * math.log2(rows / smaller[-1]):
            paid = rows
    return paid


def _smaller(measured: Iterable[int], rows: int) -> list[int]:
    return [size for size in sorted(measured) if size * APART <= rows]


def _whole(rows: float, largest: int) -> int | None:
    """Return whole labels, two figures rounded up; nothing beyond what was measured, for there the curve is a guess."""
    if rows > largest:
        return None
    step = int(10 ** max(len(str(math.ceil(rows))) - 2, 0))
    return min(math.ceil(rows / step) * step, largest)
