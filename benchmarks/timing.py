"""Timing of engines side by side: every round runs each once, so that a slow minute falls on all of them."""

import statistics
import time
from collections.abc import Callable, Mapping


def interleaved(engines: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each engine in each round. Every other round runs them backwards."""
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(rounds):
        for name in list(engines) if number % 2 == 0 else reversed(list(engines)):
            started = time.perf_counter()
            engines[name]()
            seconds[name].append(round(time.perf_counter() - started, 3))
            print(f"round {number + 1} of {rounds}: {name} {seconds[name][-1]:.1f} s", flush=True)
    return seconds


def rates(seconds: Mapping[str, list[float]], rows: int, ours: str) -> dict[str, object]:
    """Return rows per second of each engine, and the median over rounds of how many times faster `ours` is."""
    return {
        name: {
            "rows_per_second": round(rows / statistics.median(times), 1),
            "seconds": times,
            **({} if name == ours else {"ours_is_faster": _ratio(times, seconds[ours])}),
        }
        for name, times in seconds.items()
    }


def _ratio(theirs: list[float], ours: list[float]) -> dict[str, object]:
    ratios = [their / own for their, own in zip(theirs, ours, strict=True)]
    return {"median_times": round(statistics.median(ratios), 2), "of_each_round": [round(ratio, 2) for ratio in ratios]}
