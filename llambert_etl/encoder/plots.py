"""Pictures of an evaluation: where an encoder errs, and whether its confidence can be believed."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from scipy.stats import binomtest

from llambert_etl.encoder.metrics import Evaluation, Honesty

_BINS = 10


def confusion_plot(evaluation: Evaluation, path: Path) -> Path:
    """Draw the confusion matrix with counts; rows are gold."""
    counts = np.asarray(evaluation.confusion)
    figure = Figure(
        figsize=(1.4 * len(evaluation.labels) + 2.6, 1.2 * len(evaluation.labels) + 2.0), layout="constrained"
    )
    axes = figure.subplots()
    image = axes.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(evaluation.labels))
    axes.set_xticks(ticks, evaluation.labels, rotation=30, ha="right")
    axes.set_yticks(ticks, evaluation.labels)
    axes.set_xlabel("encoder")
    axes.set_ylabel("gold")
    for row in ticks:
        for column in ticks:
            dark = counts[row, column] > 0.6 * max(counts[row].sum(), 1)
            axes.text(
                column, row, f"{counts[row, column]:,}", ha="center", va="center", color="white" if dark else "black"
            )
    figure.colorbar(image, label="share of the gold label", shrink=0.8)
    axes.set_title(f"accuracy {evaluation.accuracy:.3f}, macro F1 {evaluation.macro_f1:.3f}, n = {evaluation.n:,}")
    figure.savefig(path, dpi=120)
    return path


def reliability_plot(
    probabilities: npt.NDArray[np.float64], truth: npt.NDArray[np.int64], honesty: Honesty, path: Path
) -> Path:
    """Draw accuracy against confidence, and how many rows have which confidence."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    edges = np.linspace(0, 1, _BINS + 1)
    # Of like many rows, so that each point says as much as another.
    bins = np.digitize(confidence, np.quantile(confidence, edges[1:-1]))
    figure = Figure(figsize=(5.2, 5.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    filled = [bin_ for bin_ in range(_BINS) if (bins == bin_).any()]
    means = [(confidence[bins == bin_].mean(), right[bins == bin_].mean()) for bin_ in filled]
    bounds = [
        binomtest(int(own.sum()), len(own)).proportion_ci(0.95, "wilson") for own in (right[bins == b] for b in filled)
    ]
    bars = [
        [mean - bound.low for (_, mean), bound in zip(means, bounds, strict=True)],
        [bound.high - mean for (_, mean), bound in zip(means, bounds, strict=True)],
    ]
    upper.plot([0, 1], [0, 1], linestyle="--", color="grey", label="honest")
    upper.errorbar(*zip(*means, strict=True), bars, fmt="o", capsize=3, label="encoder, 95 % intervals")
    upper.set_ylabel("accuracy")
    upper.set_title(
        f"calibration on gold: ECE {honesty.ece:.3f},\n"
        f"{honesty.ece_mass:.3f} in bins of like many rows (by chance {honesty.ece_mass_by_chance:.3f})"
    )
    upper.legend(loc="upper left")
    lower.hist(confidence, bins=edges.tolist(), color="tab:blue", alpha=0.7)
    lower.set_xlabel("confidence")
    lower.set_ylabel("rows")
    figure.savefig(path, dpi=120)
    return path
