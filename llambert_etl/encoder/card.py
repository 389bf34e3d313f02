"""llambert.json: what an encoder folder says about itself beyond the Hugging Face files."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from llambert_etl.errors import DataError

CARD = "llambert.json"
RECIPE = "recipe.json"  # beside it where it was trained; no part of what is registered


# On which side the shorter texts of a batch are padded, or `full`: every text to `max_length`, whatever is beside it.
Padding = Literal["right", "left", "full"]


@dataclass(frozen=True)
class Card:
    labels: tuple[str, ...]
    max_length: int
    padding: Padding = "right"

    def write(self, folder: Path) -> None:
        (folder / CARD).write_text(json.dumps(asdict(self), ensure_ascii=False), encoding="utf-8")


def read_card(folder: Path) -> Card:
    """Raise DataError naming the file where it is missing or does not make sense."""
    path = folder / CARD
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        # An unknown field would change what the weights mean, so it is refused and never passed over.
        card = Card(**{**raw, "labels": tuple(str(label) for label in raw["labels"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not a model card of llambert ({error!r}); train and register the encoder again"
        ) from error
    if len(card.labels) < 2 or not isinstance(card.max_length, int) or card.max_length <= 0:
        raise DataError(f"{path}: needs two labels or more and a positive max_length; found {card}")
    if card.padding not in get_args(Padding):
        raise DataError(f"{path}: padding is {card.padding!r}, which is none of {get_args(Padding)}; train again")
    return card
