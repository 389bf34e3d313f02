"""Turns a record into a document, or says why not; one of many never spoils its neighbours."""

import itertools
import unicodedata
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import polars as pl

from llambert_etl.sources.columns import Columns
from llambert_etl.sources.records import Missing, Reason, Record
from llambert_etl.wording import is_unicode

# Part of the identity of what was ingested: a new version ingests unchanged files again.
CLEANER_VERSION = "1"
MAX_ID_CHARS = 1_024
MAX_MARK_RUN = 10_000
# What is seen in most texts of most scripts: to look for the categories of all characters takes longer.
SEEN = (
    "[!-~\u00a1-\u00ac\u00ae-\u02af\u0391-\u03a1\u03a3-\u03ce\u0400-\u0481\u048a-\u052f\u05d0-\u05ea\u0620-\u063f"
    "\u0641-\u064a\u0904-\u0939\u0e01-\u0e30\u10d0-\u10fa\u3041-\u3096\u30a1-\u30fa\u3400-\u4db5\u4e00-\u9fef\uac00-\ud7a3]"
)


class Cleaned(NamedTuple):
    """The id where there is a usable one, the text where it may be kept or hashed, and the reason of a refusal."""

    id: str | None
    text: str | None
    reason: Reason | None


def clean(record: Record, max_chars: int) -> Cleaned:
    key, id_fault = _clean_id(record.id)
    text, text_fault = _clean_text(record.text, max_chars)
    return Cleaned(key, text, id_fault or text_fault)


def clean_columns(columns: Columns, max_chars: int) -> pl.DataFrame:
    """Return `place`, `id`, `text` and `sound`: where that is false, `clean` has to look at the row.

    What is sound here is what `clean` accepts, with the same id and text.
    """
    key, text, chars = pl.col("id"), pl.col("text"), pl.col("text").str.len_chars()
    ascii_only = chars == text.str.len_bytes()
    sound = (
        (key.str.len_chars() <= MAX_ID_CHARS)
        & key.str.contains(SEEN)
        & ~key.str.contains("\0", literal=True)
        & (chars <= pl.when(ascii_only).then(max_chars).otherwise(min(max_chars, MAX_MARK_RUN)))
        & text.str.contains(SEEN)
        & ~text.str.contains("\0", literal=True)
    )
    found = pl.DataFrame({"place": columns.places, "id": columns.ids, "text": columns.texts}).with_columns(
        sound.fill_null(False).alias("sound"), ascii_only.alias("ascii_only")
    )
    if not (found["ascii_only"] | ~found["sound"]).all():
        texts = found.select(pl.when("sound").then("text")).to_series().to_list()
        normal = [text if text is None or text.isascii() else unicodedata.normalize("NFC", text) for text in texts]
        found = found.with_columns(pl.Series("text", normal, dtype=pl.String)).with_columns(
            pl.col("sound") & (chars <= max_chars)  # a few characters have no composed form and grow
        )
    return found.drop("ascii_only")


def _clean_id(value: object) -> tuple[str | None, Reason | None]:
    """Accept strings as they are, integers by their decimal digits and uuids: 7 and "7" are one id."""
    if isinstance(value, Missing):
        return None, Reason.ID_MISSING
    if not _has_one_spelling(value):
        return None, Reason.ID_NOT_TEXT
    key = str(value)
    fault = None
    if not key.strip():
        fault = Reason.ID_BLANK
    elif len(key) > MAX_ID_CHARS:
        fault = Reason.ID_TOO_LONG
    elif not is_unicode(key):
        fault = Reason.ID_NOT_UNICODE
    elif "\0" in key:
        fault = Reason.ID_NUL
    return (None, fault) if fault else (key, None)


def _has_one_spelling(value: object) -> bool:
    if isinstance(value, Decimal):
        return value.as_tuple().exponent == 0
    return isinstance(value, str | int | UUID) and not isinstance(value, bool)


def _clean_text(value: object, max_chars: int) -> tuple[str | None, Reason | None]:
    """Normalise to NFC. A text that is refused is never cut or mended: the producer should know."""
    if isinstance(value, Missing):
        return None, Reason.TEXT_MISSING
    if not isinstance(value, str):
        return None, Reason.TEXT_NOT_TEXT
    if len(value) > max_chars:
        return None, Reason.TEXT_TOO_LONG
    if not is_unicode(value):
        return None, Reason.TEXT_NOT_UNICODE
    if "\0" in value:
        return None, Reason.TEXT_NUL
    if _is_blank(value):
        return None, Reason.TEXT_BLANK
    if _has_mark_run(value):
        return None, Reason.TEXT_MARK_RUN
    text = unicodedata.normalize("NFC", value)
    # A few characters have no composed form and grow.
    return (text, None) if len(text) <= max_chars else (None, Reason.TEXT_TOO_LONG)


def _is_blank(text: str) -> bool:
    """Nothing to see: only spaces, controls and invisible format characters."""
    return all(character.isspace() or unicodedata.category(character)[0] in "CZ" for character in text)


def _has_mark_run(text: str) -> bool:
    # Canonical ordering sorts each run of marks by insertion: 100,000 of them took five seconds.
    if len(text) <= MAX_MARK_RUN or text.isascii():
        return False
    runs = itertools.groupby(text, key=lambda character: unicodedata.combining(character) > 0)
    return any(marks and sum(1 for _ in run) > MAX_MARK_RUN for marks, run in runs)
