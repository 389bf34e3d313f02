"""What a failed step means to Airflow: the step's exit code decides whether trying again helps."""

import datetime

from airflow.sdk import Context, RetryDecision, RetryPolicy

from llambert_etl.errors import ConfigError, DataError, LlambertError, TransientError

RETRIES = 2

_FIRST_DELAY = datetime.timedelta(minutes=1)
_LONGEST_DELAY = datetime.timedelta(minutes=30)


class ExitCodePolicy(RetryPolicy):
    """Fail at the first try what somebody must mend; wait longer at each try for what mends itself.

    A bug or a killed process falls through to the step's plain retries.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        if isinstance(exception, DataError | ConfigError):
            return RetryDecision.fail(reason=f"trying again does not help: {exception}")
        if isinstance(exception, TransientError):
            delay = min(_FIRST_DELAY * 2 ** (try_number - 1), _LONGEST_DELAY)
            return RetryDecision.retry(delay=delay, reason=f"trying again may help: {exception}")
        return RetryDecision.default()


class StepCrashedError(Exception):
    """The step ended with an exit code that is none of ours: a bug, or a signal (128 + its number)."""


def error_for(exit_code: int, message: str) -> Exception:
    """Return the error that a step's exit code stands for."""
    kinds: tuple[type[LlambertError], ...] = (TransientError, DataError, ConfigError)
    named = {kind.exit_code: kind for kind in kinds}
    return named[exit_code](message) if exit_code in named else StepCrashedError(f"exit code {exit_code}: {message}")
