"""The real stdout: what is written there, and what no terminal may take for an order."""

import os
import re
import sys

from llambert_etl.errors import LlambertError, TransientError

# Orders to a terminal (C0, DEL, C1), what turns the direction of writing, other line breaks, and halves of a character.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class NoReader(LlambertError):
    """Whoever read stdout has gone, as `head` does. A shell gives 141 to every program that ends so."""

    exit_code = 141


def visible(text: str) -> str:
    r"""Return text with `\u001b` and the like for what a terminal would obey. A line of JSON keeps its meaning.

    Whatever comes from data, from people or from a library is a single line here.
    """
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def at_terminal() -> bool:
    """Tell whether a person reads what `write` writes."""
    return sys.__stdout__ is not None and sys.__stdout__.isatty()


def write(text: str) -> None:
    """Write to the real stdout; while a command runs, sys.stdout is stderr. Raise NoReader or TransientError."""
    out = sys.__stdout__
    if out is None:
        return
    try:
        out.write(text)
        out.flush()
    except BrokenPipeError:
        _silence(out.fileno())
        raise NoReader("nobody reads stdout any more") from None
    except OSError as error:
        _silence(out.fileno())
        raise TransientError(
            f"stdout: cannot be written: {error.strerror}; what the step did stands: make room there, or send it "
            "elsewhere, and run it again"
        ) from error


def _silence(number: int) -> None:
    """Lead stdout to nowhere: Python would fail once more, at its end, with what is left in the buffer."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
