"""Translates what mlflow and requests raise into the three errors."""

from collections.abc import Iterator
from contextlib import contextmanager

from llambert_etl.errors import ConfigError, DataError, TransientError

# Of the server: its database refused, as where two write one row at once. What a request lacks has a code of its own.
_REFUSED_BY_DATABASE = "BAD_REQUEST"


class Absent(DataError):
    """The server has no such thing; some callers expect that."""


@contextmanager
def registry_faults(what: str) -> Iterator[None]:
    """Raise one of the three errors in place of a failed request in the block."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    try:
        yield
    except MlflowException as error:
        code = error.get_http_status_code()  # type: ignore[no-untyped-call]
        raise _translate(what, code, error.error_code) from error
    except RequestException as error:
        # Artifacts travel by plain requests, whose refusals are no MlflowException.
        code = 0 if error.response is None else error.response.status_code
        raise _translate(what, code, type(error).__name__) from error


def _translate(what: str, code: int, said: str) -> Exception:
    if code in (401, 403):
        return ConfigError(
            f"registry, {what}: refused ({code}); check LLAMBERT_MLFLOW_USERNAME and LLAMBERT_MLFLOW_PASSWORD"
        )
    if code == 404:
        return Absent(f"registry, {what}: is not there; promote another version or train again")
    if said == _REFUSED_BY_DATABASE:
        return TransientError(f"registry, {what}: the MLflow server's database refused it ({said})")
    if 400 <= code < 500 and code != 429:
        return DataError(f"registry, {what}: {said}")
    return TransientError(f"registry, {what}: no answer from the MLflow server of LLAMBERT_MLFLOW_URI ({said})")
