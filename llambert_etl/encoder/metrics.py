"""How good an encoder is on gold: per class, macro, and how honest its confidence is. For any number of classes.

Measured here, for training, promotion and studies.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from llambert_etl.encoder.calibration import equal_mass_error, expected_calibration_error, log_loss, logarithms
from llambert_etl.encoder.inference import Encoder
from llambert_etl.encoder.labelled import truth


@dataclass(frozen=True)
class ClassScores:
    precision: float
    recall: float
    f1: float
    n: int


@dataclass(frozen=True)
class Honesty:
    """How far confidences can be believed. `ece` has bins of equal width, `ece_mass` bins of like many rows.

    An encoder whose confidences are right has an `ece_mass` of about `ece_mass_by_chance` on so many rows. `brier` is
    summed over the labels, so it is 0 to 2.
    """

    ece: float
    ece_mass: float
    ece_mass_by_chance: float
    log_loss: float
    brier: float


@dataclass(frozen=True)
class Evaluation:
    """`confusion[i][j]` counts rows of true label i that were predicted as label j."""

    labels: tuple[str, ...]
    n: int
    accuracy: float
    macro_f1: float
    honesty: Honesty
    per_class: dict[str, ClassScores]
    confusion: tuple[tuple[int, ...], ...]

    @property
    def predicted_shares(self) -> dict[str, float]:
        """Share of each predicted label: what gives a collapsed encoder away."""
        columns = np.asarray(self.confusion).sum(axis=0) / max(self.n, 1)
        return {label: float(share) for label, share in zip(self.labels, columns, strict=True)}

    def flat(self) -> dict[str, float]:
        """Return one number per name, as a tracking server wants them."""
        numbers = {
            "n": float(self.n),
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            **asdict(self.honesty),
        }
        for label, scores in self.per_class.items():
            numbers |= {
                f"precision.{label}": scores.precision,
                f"recall.{label}": scores.recall,
                f"f1.{label}": scores.f1,
            }
        for label, share in self.predicted_shares.items():
            numbers[f"predicted_share.{label}"] = share
        return numbers


@dataclass(frozen=True)
class Measurement:
    """`truth` has the numbers of the labels that people gave, `probabilities` a row for each of these."""

    truth: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    evaluation: Evaluation

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)


def measure(encoder: Encoder, gold: pl.DataFrame, names: Sequence[str]) -> Measurement:
    true, probabilities = truth(gold, names), encoder.predict(gold["text"].to_list())
    return Measurement(true, probabilities, evaluate(names, true, probabilities))


def evaluate(
    labels: Sequence[str],
    truth: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float64],
) -> Evaluation:
    predicted = probabilities.argmax(axis=1)
    known = list(range(len(labels)))
    precision, recall, f1, support = precision_recall_fscore_support(truth, predicted, labels=known, zero_division=0)
    return Evaluation(
        labels=tuple(labels),
        n=len(truth),
        accuracy=float((predicted == truth).mean()),
        macro_f1=float(f1.mean()),
        honesty=honesty(truth, probabilities),
        per_class={
            label: ClassScores(float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
            for i, label in enumerate(labels)
        },
        confusion=tuple(tuple(int(n) for n in row) for row in confusion_matrix(truth, predicted, labels=known)),
    )


def honesty(truth: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]) -> Honesty:
    mass, by_chance = equal_mass_error(probabilities, truth)
    return Honesty(
        ece=expected_calibration_error(probabilities, truth),
        ece_mass=mass,
        ece_mass_by_chance=by_chance,
        log_loss=log_loss(logarithms(probabilities), truth),
        brier=float(((probabilities - np.eye(probabilities.shape[1])[truth]) ** 2).sum(axis=1).mean()),
    )
