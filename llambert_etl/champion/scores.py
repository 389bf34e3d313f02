"""What gold says of a version: as its training has found it on the same rows, or measured now."""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import polars as pl

from llambert_etl.corpus.gold import gold_hash
from llambert_etl.registry import ModelVersion, Registry

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Score:
    """`f1` and `shares` are by label: its F1, and the part of gold that is given it."""

    gold_f1_macro: float
    gold_accuracy: float
    f1: dict[str, float]
    shares: dict[str, float]

    @classmethod
    def of(cls, metrics: Mapping[str, float], labels: Sequence[str], prefix: str = "") -> Self:
        """Take it from flat metrics; raise KeyError where one is missing."""
        f1, shares = (
            {label: metrics[f"{prefix}{name}.{label}"] for label in labels} for name in ("f1", "predicted_share")
        )
        return cls(metrics[f"{prefix}macro_f1"], metrics[f"{prefix}accuracy"], f1, shares)


def score(version: ModelVersion, gold: pl.DataFrame, registry: Registry) -> Score:
    """Return what gold says of a version, without measuring anew what training has measured on the same rows."""
    folder = registry.download(version)  # refuses files that are not those of the registration
    if version.gold_hash == gold_hash(gold):
        with contextlib.suppress(KeyError):  # versions of earlier releases kept less
            return Score.of(version.metrics, version.labels, "gold.")
    from llambert_etl.encoder.inference import Encoder
    from llambert_etl.encoder.metrics import measure

    found = measure(Encoder.load(folder), gold, version.labels).evaluation
    logger.info("version %d: gold macro F1 %.4f, accuracy %.4f", version.version, found.macro_f1, found.accuracy)
    return Score.of(found.flat(), version.labels)
