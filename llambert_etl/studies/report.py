"""A study as people read it: a table in Markdown and a plot."""

import math
from collections.abc import Sequence
from pathlib import Path

from llambert_etl.config import StudyKind
from llambert_etl.studies.summary import Line

_ACCURACY = "accuracy on gold, % (with 95 % intervals)"
_AXES = {"size": "labels to learn from", "mislabelling": "share of wrong labels", "prompts": "shots"}

_FIGURES = 11  # that stand side by side below a plot


def table(kind: StudyKind, lines: Sequence[Line]) -> str:
    """Return a Markdown table, accuracies in percent."""
    named = ["series", _AXES[kind]] if kind in _AXES else ["series"]
    more = list(dict.fromkeys(name for line in lines for name in line.details))
    head = [*named, "accuracy, %", "95 % interval", "macro F1, %", "seeds", "gold rows", *more]
    rows = [
        [
            line.series,
            *([f"{line.x:,.10g}"] if line.x is not None else []),
            f"{100 * line.accuracy:.2f}",
            f"{100 * line.low:.2f} to {100 * line.high:.2f}",
            f"{100 * line.macro_f1:.2f}",
            str(line.seeds),
            f"{line.tested:,}",
            *(_shown(line.details.get(name, "not known")) for name in more),
        ]
        for line in lines
    ]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]) + "\n"


def plot(title: str, kind: StudyKind, lines: Sequence[Line], path: Path) -> Path:
    """Draw accuracy with its interval: against what was varied, or one row for each name."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7.2, 4.6 if kind in _AXES else 1.6 + 0.5 * len(lines)), layout="constrained")
    axes = figure.subplots()
    for number, series in enumerate(dict.fromkeys(line.series for line in lines)):
        own = [line for line in lines if line.series == series]
        accuracies = [100 * line.accuracy for line in own]
        bars = [[100 * (line.accuracy - line.low) for line in own], [100 * (line.high - line.accuracy) for line in own]]
        if kind in _AXES:
            axes.errorbar([line.x or 0.0 for line in own], accuracies, bars, fmt="o-", capsize=3, label=series)
        else:
            axes.errorbar(accuracies, [number] * len(own), xerr=bars, fmt="o", capsize=3)
    if kind in _AXES:
        if kind == "size":
            axes.set_xscale("log")
            sizes = sorted({line.x or 0.0 for line in lines})
            axes.set_xticks(ticks := _with_room(sizes), [f"{size:,.0f}" for size in ticks])
            axes.minorticks_off()
        if kind == "prompts":
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(_AXES[kind])
        axes.set_ylabel(_ACCURACY)
        axes.legend()
    else:
        axes.set_yticks(range(len(lines)), [line.series for line in lines])
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.set_xlabel(_ACCURACY)
    axes.grid(alpha=0.3)
    axes.set_title(title)
    figure.savefig(path, dpi=120)
    return path


def _with_room(sizes: Sequence[float]) -> list[float]:
    """Return those of the ascending sizes whose figures do not run into each other on a log axis; the last is one."""
    room = math.log(sizes[-1] / sizes[0]) / _FIGURES
    shown = [sizes[-1]]
    for size in reversed(sizes):
        if size < shown[-1] and math.log(shown[-1] / size) >= room:
            shown.append(size)
    return shown


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
