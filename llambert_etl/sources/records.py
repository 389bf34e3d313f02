"""The words that readers share: an object, a record read from it, a refusal, and the limits that bound them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self

_MIB = 1 << 20


_REST = (
    "the rows before are kept (in Parquet, the row groups before), the rest is this one row, or one for each row where "
    "a Parquet file's footer can still be read"
)


class Reason(StrEnum):
    """Why something that was read is not an accepted document. The first word says what was refused."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        member = str.__new__(cls, value)
        member._value_, member.meaning = value, meaning
        return member

    FILE_WRONG_KIND = (
        "file_wrong_kind",
        "not what its name says, or a name that is not read: an image, gzip posing as JSON lines, UTF-16, JSON that is "
        "no JSON lines (an array over lines, or none of the first 1,000 lines is an object)",
    )
    FILE_UNSAFE_NAME = "file_unsafe_name", "`..`, `//`, `%`, a backslash or a control character in its key"
    FILE_TRUNCATED = "file_truncated", f"ends too early; {_REST}"
    FILE_CORRUPT = "file_corrupt", f"breaks midway; {_REST}"
    FILE_BOMB = "file_bomb", f"unpacks to far more than any text would; {_REST}"
    MARKER = (
        "marker",
        "a file whose name begins with `_` or `.` and has no ending that is read (`_SUCCESS`): no loss of a file",
    )
    LINE_TOO_LONG = (
        "line_too_long",
        "longer than 16 MiB, or than twelve bytes for each of `max_chars` where that is more",
    )
    LINE_NOT_UTF8 = "line_not_utf8", "bytes that are no UTF-8"
    LINE_NOT_JSON = "line_not_json", "no JSON"
    LINE_NOT_OBJECT = "line_not_object", "JSON, but no {...}"
    LINE_AMBIGUOUS = "line_ambiguous", "the field of the id or of the text comes twice in its JSON"
    LINE_TOO_DEEP = "line_too_deep", "JSON nested beyond any sense"
    LINE_NOT_CSV = (
        "line_not_csv",
        "other columns than the header, quotes that do not match within 100,000 lines, or the header once more",
    )
    ID_MISSING = "id_missing", "the row has no such field"
    ID_NOT_TEXT = "id_not_text", "neither a string, an integer, a uuid nor a decimal without fraction"
    ID_BLANK = "id_blank", "only white space"
    ID_TOO_LONG = "id_too_long", "more than 1,024 characters"
    ID_NOT_UNICODE = "id_not_unicode", "half of a surrogate pair"
    ID_NUL = "id_nul", "a NUL character in it"
    TEXT_MISSING = "text_missing", "the row has no such field"
    TEXT_NOT_TEXT = "text_not_text", "null, a number, a list"
    TEXT_BLANK = "text_blank", "nothing to see: only white space, control and invisible characters"
    TEXT_TOO_LONG = "text_too_long", "more characters than the source's `max_chars`"
    TEXT_NOT_UNICODE = "text_not_unicode", "half of a surrogate pair"
    TEXT_NUL = "text_nul", "a NUL character in it"
    TEXT_MARK_RUN = "text_mark_run", "more than 10,000 combining marks in a row: normalising them takes seconds"
    DUPLICATE = "duplicate", "the id came before in this drop, with the same text"
    ID_CONFLICT = "id_conflict", "the id came before in this drop, with another text: the first wins"
    FORGOTTEN = "forgotten", "its id was forgotten (`llambert forget`): neither id nor text is kept"


class SourceObject(NamedTuple):
    """One file of a drop. `etag` changes whenever the content does."""

    uri: str
    size: int
    etag: str


@dataclass(frozen=True)
class Missing:
    """Mark a field that the record does not have, beside the `fields` that it has: not the same as one that is null."""

    fields: tuple[str, ...] = ()


MISSING = Missing()


class Record(NamedTuple):
    """One row as it was read; nothing about `id` and `text` has been checked."""

    place: str
    id: object
    text: object


class Refusal(NamedTuple):
    """One row, or the rest of a file, that could not be read."""

    place: str
    reason: Reason


class UnreadableError(Exception):
    """The rest of this file cannot be read. Raised and caught within `sources`."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Limits:
    """What no honest text file needs, and what keeps memory flat when a file is not honest.

    gzip cannot exceed 1,032 : 1 and zstd 32,768 : 1; JSON lines of reviews reach about 4 : 1, logs about 50 : 1.
    """

    line_bytes: int = 16 * _MIB
    unpacked_bytes: int = 64 * 1024 * _MIB
    ratio: int = 250
    ratio_from_bytes: int = 64 * _MIB

    def allow(self, packed: int, unpacked: int) -> bool:
        """Tell whether honest `packed` bytes could give as many `unpacked` ones."""
        return unpacked <= min(self.unpacked_bytes, max(self.ratio_from_bytes, self.ratio * packed))

    def check_unpacked(self, packed: int, unpacked: int) -> None:
        """Raise UnreadableError where `allow` says no."""
        if not self.allow(packed, unpacked):
            raise UnreadableError(Reason.FILE_BOMB)
