"""How a command ends: the manifest on stdout, one line of error, and the exit code that Airflow reads."""

import contextlib
import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Literal, TextIO

import typer

from llambert_etl.cli.terminal import NoReader, visible, write
from llambert_etl.errors import ConfigError, LlambertError, TransientError
from llambert_etl.signals import handling
from llambert_etl.store.space import no_room, takes_no_more, unusable
from llambert_etl.wording import is_unicode, unquoted

_TERMINATION_LOG = Path("/dev/termination-log")
TERMINATION_BYTES = 4096
_BUG, _INTERRUPTED = 1, 130

logger = logging.getLogger("llambert")


class _JsonFormatter(logging.Formatter):
    """One event, one line: JSON escapes newlines and terminal codes, so that a logged value cannot forge a line."""

    def format(self, record: logging.LogRecord) -> str:
        event = {"time": self.formatTime(record), "level": record.levelname, "logger": record.name}
        return json.dumps({**event, "message": record.getMessage()})


class _PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower()} {visible(record.getMessage())}"


def _is_told(record: logging.LogRecord) -> bool:
    """Keep a step's own story. Libraries only warn: Great Expectations gives its loggers a level of their own."""
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] in ("llambert", "llambert_etl")


def set_up_logging(style: Literal["plain", "json"]) -> None:
    """Log to stderr: plain lines for a person, JSON for a log collector."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if style == "json" else _PlainFormatter())
    handler.addFilter(_is_told)
    # Bars are for terminals; in a step's log each redraw is a line. These bring handlers of their own, too. All of it
    # is read when the library is imported, later.
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("llambert_etl").setLevel(logging.INFO)
    logger.setLevel(logging.INFO)


def progress(what: str, every_seconds: float = 10.0) -> Callable[[int, int], None]:
    """Return a callback (done, total) that logs a line now and then, with the rate and the time left."""
    started = last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < every_seconds and done < total:
            return
        last = now
        rate = done / max(now - started, 1e-9)
        logger.info(
            "%s: %s of %s, %.1f a second, %.0f s left", what, done, total, rate, (total - done) / max(rate, 1e-9)
        )

    return report


def check_readable(arguments: Iterable[str]) -> None:
    """Raise ConfigError for bytes that are no UTF-8: no row can hold them. The name of a file may be what it likes."""
    for each in arguments:
        if not is_unicode(each) and not os.access(each, os.F_OK):
            raise ConfigError(f"argument {each!r} is not UTF-8; type it in a terminal whose encoding is, or in ASCII")


def conclude(command: Callable[[], object], prints: TextIO | None = None) -> int:
    """Run a command; return its exit code. What libraries print goes to stderr: stdout is for results."""
    try:
        with handling(_leave, signal.SIGTERM), contextlib.redirect_stdout(prints or sys.stderr):
            ended = command()
    except SystemExit as stop:
        if prints is sys.stdout and stop.code != TransientError.exit_code:  # rich, on a help that nobody reads
            return NoReader.exit_code
        return _failed("asked to stop before the end; run it again", TransientError.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return interrupted()
    except typer.BadParameter as error:
        return _failed(error.format_message(), ConfigError.exit_code)  # names the option, which str() leaves out
    except typer.TyperException as error:
        return _failed(str(error), ConfigError.exit_code)
    except NoReader as gone:
        return gone.exit_code
    except LlambertError as error:
        return _failed(str(error), error.exit_code)
    except BaseException as error:  # what a library in Rust panics with is no Exception
        return _unexpected(error)
    # Typer returns the code of an exit as if a command had returned it, and makes one of Ctrl-C.
    return interrupted() if ended == _INTERRUPTED else 0


def interrupted() -> int:
    """Say so, and return the code that a shell gives to what Ctrl-C has ended."""
    return _failed("interrupted; what is done stands: run it again for the rest", _INTERRUPTED)


def _unexpected(error: BaseException) -> int:
    """Tell a failure of this machine; all else is ours, and its traceback says where, without a value of anybody's."""
    machine = unusable(error) if isinstance(error, OSError) else None
    if takes_no_more(error):
        machine = no_room(None, error)
    if machine is not None:
        return _failed(str(machine), machine.exit_code)
    _complain("\n".join(map(visible, "\n".join(_story(error)).splitlines())))
    return _failed("this is a bug in llambert, not in your data or settings; see the traceback above", _BUG)


def _story(error: BaseException) -> Iterator[str]:
    chain: list[BaseException | None] = [error]
    while (last := chain[-1]) is not None:
        before = last.__cause__ or (None if last.__suppress_context__ else last.__context__)
        chain.append(None if before in chain else before)  # some end in a circle
    for each in filter(None, reversed(chain)):
        yield from ("Traceback (most recent call last):", *traceback.format_tb(each.__traceback__), unquoted(each))


def _leave(number: int, frame: FrameType | None) -> None:
    """End the command on SIGTERM: a container's first process would else not notice it, and be killed later."""
    raise SystemExit(TransientError.exit_code)  # not an Exception, which libraries on the way may catch


def _failed(reason: str, code: int) -> int:
    line = visible(" ".join("; ".join(reason.strip().split("\n")).split()))
    _complain(f"llambert: {line}")
    _last_words(line)
    return code


def _complain(what: str) -> None:
    """Write to stderr. Where that takes nothing, as on a full disk, the exit code tells all the same."""
    with contextlib.suppress(OSError):
        print(what, file=sys.stderr)


def emit(line: str) -> None:
    """Write a result to the real stdout; libraries that print meanwhile are sent to stderr."""
    write("".join(f"{visible(each)}\n" for each in line.split("\n")))
    _last_words(line)


def _last_words(line: str) -> None:
    """Leave a pod's result where Kubernetes shows it and Airflow reads it: the beginning of one that is longer."""
    if _TERMINATION_LOG.exists():
        _TERMINATION_LOG.write_bytes(line.encode()[:TERMINATION_BYTES])
