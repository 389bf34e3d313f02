"""Turns a record into a document, or says why not: one document at a time, so that none spoils its neighbours."""

import hashlib
import itertools
import unicodedata
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from llambert_etl.sources.records import Missing, Reason, Record

# Part of the identity of what was ingested: a new version ingests unchanged files again.
CLEANER_VERSION = "1"
MAX_ID_CHARS = 1_024
MAX_MARK_RUN = 10_000


class Cleaned(NamedTuple):
    """The id where there is a usable one, the text where it may be kept or hashed, and the reason of a refusal."""

    id: str | None
    text: str | None
    reason: Reason | None


def clean(record: Record, max_chars: int) -> Cleaned:
    key, id_fault = _clean_id(record.id)
    text, text_fault = _clean_text(record.text, max_chars)
    return Cleaned(key, text, id_fault or text_fault)


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
    elif not _is_unicode(key):
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
    if not _is_unicode(value):
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


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_blank(text: str) -> bool:
    """Nothing to see: only spaces, controls and invisible format characters."""
    return all(character.isspace() or unicodedata.category(character)[0] in "CZ" for character in text)


def _has_mark_run(text: str) -> bool:
    # Canonical ordering sorts each run of marks by insertion: 100,000 of them took five seconds.
    if len(text) <= MAX_MARK_RUN or text.isascii():
        return False
    runs = itertools.groupby(text, key=lambda character: unicodedata.combining(character) > 0)
    return any(marks and sum(1 for _ in run) > MAX_MARK_RUN for marks, run in runs)


class SeenIds:
    """The ids of one drop: the first document with an id wins.

    Holds 16 bytes of each id's hash and 8 of its text's, about 160 bytes of memory a document, whatever its length.
    """

    def __init__(self) -> None:
        self._texts: dict[bytes, int] = {}

    def claim(self, key: str, text_hash: str) -> Reason | None:
        """Take the id, or say what it is to the document that has it."""
        digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
        text = int(text_hash[:15], 16)
        first = self._texts.get(digest)
        if first is None:
            self._texts[digest] = text
            return None
        return Reason.DUPLICATE if first == text else Reason.ID_CONFLICT
