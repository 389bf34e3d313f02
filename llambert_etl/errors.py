"""The three errors: each answers whether trying again would help.

Anything else that escapes a step is a bug and exits with 1.
"""

from typing import ClassVar


class LlambertError(Exception):
    """An expected failure. Its message says what happened, to what, and what to do."""

    exit_code: ClassVar[int] = 1


class TransientError(LlambertError):
    """Trying again helps: the network, another writer, a service that is down."""

    exit_code = 75


class DataError(LlambertError):
    """The data must be mended first, or a gate has failed."""

    exit_code = 65


class ConfigError(LlambertError):
    """A task file, a setting or an argument must be mended first."""

    exit_code = 78
