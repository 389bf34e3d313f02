"""Which exit codes are tried again, and after how long."""

import datetime

import pytest
from airflow.sdk import RetryAction

from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.orchestration.retry import ExitCodePolicy, StepCrashedError, error_for

KINDS = {
    65: DataError,
    75: TransientError,
    78: ConfigError,
    1: StepCrashedError,
    2: StepCrashedError,
    137: StepCrashedError,
    141: StepCrashedError,
}


@pytest.mark.parametrize(
    ("exit_code", "try_number", "action", "minutes"),
    [
        (65, 1, RetryAction.FAIL, None),
        (78, 1, RetryAction.FAIL, None),
        (75, 1, RetryAction.RETRY, 1),
        (75, 2, RetryAction.RETRY, 2),
        (75, 9, RetryAction.RETRY, 30),
        (1, 1, RetryAction.DEFAULT, None),
        (2, 1, RetryAction.DEFAULT, None),
        (137, 1, RetryAction.DEFAULT, None),
        (141, 1, RetryAction.DEFAULT, None),
    ],
)
def test_exit_code_decides_whether_trying_again_helps(
    exit_code: int, try_number: int, action: RetryAction, minutes: int | None
) -> None:
    error = error_for(exit_code, "the reason")
    assert type(error) is KINDS[exit_code]
    assert "the reason" in str(error)
    decision = ExitCodePolicy().evaluate(error, try_number, max_tries=3)
    assert decision.action is action
    assert decision.retry_delay == (None if minutes is None else datetime.timedelta(minutes=minutes))


def test_errors_of_airflow_itself_keep_its_own_retries() -> None:
    assert ExitCodePolicy().evaluate(ConnectionError("api server"), 1, 3).action is RetryAction.DEFAULT
