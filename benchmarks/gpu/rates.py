"""What an engine's seconds mean: rows and tokens a second, the share of the device's peak, and dollars."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """What the device can do at most, and what it costs."""

    peak_tflops: float
    usd_per_hour: float


@dataclass(frozen=True)
class Work:
    """What an engine was given: `flops` are of the matrix products that the answers need, whatever it multiplied."""

    rows: int
    tokens: int
    flops: float

    def rates(self, seconds: Sequence[float], scale: Scale) -> dict[str, object]:
        took = max(statistics.median(seconds), 1e-3)  # what is timed is rounded to that
        return {
            "rows": self.rows,
            "seconds": list(seconds),
            "rows_per_second": round(self.rows / took, 1),
            "tokens_per_second": round(self.tokens / took),
            "tflops": round(self.flops / took / 1e12, 2),
            "share_of_peak": round(self.flops / took / 1e12 / scale.peak_tflops, 4),
            "usd_per_million_texts": round(took / self.rows * 1e6 / 3600 * scale.usd_per_hour, 2),
        }
