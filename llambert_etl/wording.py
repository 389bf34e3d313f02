"""What a message may show of data: an id is cut short, and what is too long to be a name or a label is not shown.

Messages go to logs, manifests, Airflow and the webhooks of alerts, and what is read there may be private.
"""

import re
from collections.abc import Iterable

MAX_NAME_CHARS = 60

_MAX_NAMES = 20
_MAX_TOLD_CHARS = 200
_NAME = re.compile(r"[^\W\d][\w.-]{0,59}")
_TEXT_HASH = re.compile(r"[0-9a-f]{64}")
_VALUE = re.compile(r"[`\"'\[].*$", re.DOTALL)
_QUOTED = re.compile(r"`[^`]*`|\"[^\"]*\"|'[^']*'|[`\"'].*$", re.DOTALL)


def short(name: str) -> str:
    """Return an id or a name in quotes, and only its beginning where it is long."""
    cut = "" if len(name) <= MAX_NAME_CHARS else f"... ({len(name)} characters)"
    return f"{name[:MAX_NAME_CHARS]!r}{cut}"


def listed(found: Iterable[str]) -> str:
    """Return the first names of a file's columns or fields, and how many more there are."""
    all_of_them = list(found)
    more = len(all_of_them) - _MAX_NAMES
    return f"[{', '.join(map(shown, all_of_them[:_MAX_NAMES]))}]" + (f" and {more} more" if more > 0 else "")


def heading(found: Iterable[str], wanted: Iterable[str]) -> str:
    """Return what a file's first line names. Without a name that is wanted it may be a row, and then stays unsaid."""
    columns = list(found)
    if set(wanted) & set(columns) or all(map(_NAME.fullmatch, columns)):
        return f"columns found {listed(columns)}"
    return (
        f"the first line has {len(columns)} fields that are no names of columns; is the header line missing, "
        "or its separator no comma?"
    )


def shown(value: object) -> str:
    """Return a name or a label in quotes, or only what it is where it is so long that it may be a text."""
    if isinstance(value, str):
        fits = len(value) <= MAX_NAME_CHARS or _TEXT_HASH.fullmatch(value)
        return repr(value) if fits else f"a text of {len(value)} characters"
    said = repr(value)
    return said if len(said) <= MAX_NAME_CHARS else f"a value of type {type(value).__name__}"


def told(error: Exception) -> str:
    """Return what a library says of an error in data, without what it quotes: that may be a row's text."""
    return _QUOTED.sub("...", " ".join(str(error).split()))[:_MAX_TOLD_CHARS]


def unquoted(error: BaseException) -> str:
    """Return the type of any error and its words before the first value: polars quotes rows, others their arguments."""
    words = str(error).strip().partition("\n")[0]
    said = _VALUE.sub("...", words)[:_MAX_TOLD_CHARS]
    return f"{type(error).__module__}.{type(error).__qualname__}: {said}"


def printable(name: str) -> str:
    """Return a name as a column can hold it: a file's name on a local disk, or a field's, need not be Unicode."""
    return name.encode("utf-8", "backslashreplace").decode()


def is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
