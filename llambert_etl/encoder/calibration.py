"""Temperature scaling: one number that makes confidences mean what they say, without changing any label."""

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from llambert_etl.errors import ConfigError

CALIBRATION = "calibration.json"  # beside a trained encoder's files; no part of what is registered

_BOUNDS = (0.05, 20.0)
_FOLDS = 10
# On fewer rows the fit's own error is as large as what it mends, and so is that of asking whether it does.
_FEWEST = 40
_DRAWS = 100

Floats = npt.NDArray[np.float64]
Classes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Calibration:
    """What became of the logits: divided by `temperature`, which is 1.0 where dividing them helps nobody.

    `fitted` is what all held-out `rows` would have them divided by. The log losses are of rows that it was not fitted
    on, without and with it. None where the rows are too few to ask.
    """

    rows: int
    temperature: float = 1.0
    fitted: float | None = None
    log_loss_without: float | None = None
    log_loss_with: float | None = None

    def flat(self) -> dict[str, float]:
        """Return one number per name, as a tracking server wants them."""
        return {name: float(value) for name, value in asdict(self).items() if value is not None}


def calibrate(logits: Floats, labels: Classes) -> Calibration:
    """Fit a temperature, and take it where it lowers the log loss of rows that it was not fitted on.

    Each fold of the rows is scored with the temperature that the others have: on the rows that it is fitted on, every
    temperature helps.
    """
    rows = len(labels)
    if rows < _FEWEST:
        return Calibration(rows)
    fold = np.random.default_rng(0).permutation(rows) % _FOLDS
    own = np.ones((rows, 1))
    for each in range(_FOLDS):
        own[fold == each] = fit_temperature(logits[fold != each], labels[fold != each])
    without, divided = log_loss(logits, labels), log_loss(logits / own, labels)
    fitted = fit_temperature(logits, labels)
    return Calibration(rows, fitted if divided < without else 1.0, fitted, without, divided)


def log_loss(logits: Floats, labels: Classes) -> float:
    """Return the mean of what the right labels' probabilities lack, in nats."""
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def fit_temperature(logits: Floats, labels: Classes) -> float:
    """Return the temperature that minimises the log loss on held-out rows.

    A label counts for (n + 1) / (n + classes), and each other one for 1 / (n + classes), as in Platt's scaling (1999):
    n rows without an error must not make a model surer than n rows can.
    """
    rows, classes = logits.shape
    target = (np.eye(classes)[labels] * rows + 1) / (rows + classes)

    def loss(log_temperature: float) -> float:
        return float(-(target * log_softmax(logits / np.exp(log_temperature), axis=1)).sum(axis=1).mean())

    found = minimize_scalar(loss, bounds=tuple(np.log(_BOUNDS)), method="bounded")
    return float(np.exp(found.x))


def fold_temperature(model: torch.nn.Module, classes: int, temperature: float) -> None:
    """Divide the logits by `temperature` in the weights themselves, so that every reader of them is calibrated.

    Raise ConfigError for an architecture that does not end in a linear layer with one output for each class.
    """
    heads = [
        module for module in model.modules() if isinstance(module, torch.nn.Linear) and module.out_features == classes
    ]
    if not heads:
        raise ConfigError(
            f"encoder.model: {type(model).__name__} has no linear layer of {classes} outputs to calibrate; "
            "choose another encoder"
        )
    with torch.no_grad():
        for parameter in heads[-1].parameters():
            parameter.div_(temperature)


def without_temperature(probabilities: Floats, temperature: float) -> Floats:
    """Return the probabilities that an encoder would give whose logits were not divided by `temperature`."""
    return np.asarray(softmax(logarithms(probabilities) * temperature, axis=1))


def logarithms(probabilities: Floats) -> Floats:
    """Return logits that these are the probabilities of, all of them finite: one may be rounded to 0."""
    return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))


def expected_calibration_error(probabilities: Floats, labels: Classes, bins: int = 10) -> float:
    """Return the mean gap between confidence and accuracy over equal-width bins, weighted by rows.

    Most rows of a good encoder lie in the uppermost bin, where those that are too sure make up for those that are not
    sure enough: see `equal_mass_error`.
    """
    confidence, right = _confidence(probabilities, labels)
    return _gap(confidence, right, np.minimum((confidence * bins).astype(int), bins - 1))


def equal_mass_error(probabilities: Floats, labels: Classes, bins: int = 10) -> tuple[float, float]:
    """Return the mean gap between confidence and accuracy over bins of like many rows, and what chance makes of it.

    The second is the mean gap of encoders with these very confidences that are right as often as they say: a gap of
    that size is none. Rows of one confidence share a bin.
    """
    confidence, right = _confidence(probabilities, labels)
    which = np.searchsorted(np.quantile(confidence, np.arange(1, bins) / bins), confidence, side="right")
    drawn = np.random.default_rng(0)
    honest = [_gap(confidence, drawn.random(len(labels)) < confidence, which) for _ in range(_DRAWS)]
    return _gap(confidence, right, which), float(np.mean(honest))


def _confidence(probabilities: Floats, labels: Classes) -> tuple[Floats, npt.NDArray[np.bool_]]:
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def _gap(confidence: Floats, right: npt.NDArray[np.bool_], which: npt.NDArray[np.int64]) -> float:
    return float(np.abs(np.bincount(which, confidence - right)).sum() / len(which))
