"""`predict` says of a text what a label run says of a document of that text."""

import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from llambert_etl.encoder.inference import Encoder
from llambert_etl.errors import DataError
from llambert_etl.steps.predict import predict
from tests.given.promotion import House


@pytest.fixture
def crowned(house: House) -> House:
    house.train("right")
    house.promote()
    return house


def test_a_text_is_normalised_as_a_document_is(crowned: House, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    labelled = Encoder.predict

    def noting(encoder: Encoder, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        seen.extend(texts)
        return labelled(encoder, texts)

    monkeypatch.setattr(Encoder, "predict", noting)
    given = unicodedata.normalize("NFD", "the café good")
    ((text, label, probabilities),) = predict(crowned.task, [given], lake=crowned.lake, registry=crowned.registry)
    assert seen == [unicodedata.normalize("NFC", given)]
    assert (text, probabilities[label]) == (given, max(probabilities.values()))


@pytest.mark.parametrize(
    ("text", "reason"), [(" \u200b", "text_blank"), ("a\0b", "text_nul"), ("x" * 1_000_000, "text_too_long")]
)
def test_a_text_that_no_document_can_have_gets_no_label(crowned: House, text: str, reason: str) -> None:
    with pytest.raises(DataError, match=f"text 2 is none that ingest accepts: {reason}"):
        predict(crowned.task, ["fine", text], lake=crowned.lake, registry=crowned.registry)
