"""Temperature scaling: one number that makes confidences mean what they say, without changing any label."""

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from llambert_etl.errors import ConfigError

_BOUNDS = (0.05, 20.0)


def fit_temperature(logits: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> float:
    """Return the temperature that minimises the log loss on held-out rows; 1.0 where there are none.

    A label counts for (n + 1) / (n + classes), and each other one for 1 / (n + classes), as in Platt's scaling (1999):
    n rows without an error must not make a model surer than n rows can.
    """
    rows, classes = logits.shape
    if rows == 0:
        return 1.0
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


def expected_calibration_error(
    probabilities: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    bins: int = 10,
) -> float:
    """Return the mean gap between confidence and accuracy over equal-width bins, weighted by rows."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        (which == index).mean() * abs(confidence[which == index].mean() - right[which == index].mean())
        for index in range(bins)
        if (which == index).any()
    ]
    return float(sum(gaps))
