"""What an encoder says of gold rows, beside what people say: measured here, for training, promotion and studies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from llambert_etl.encoder.inference import Encoder
from llambert_etl.encoder.labelled import truth
from llambert_etl.encoder.metrics import Evaluation, evaluate


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
