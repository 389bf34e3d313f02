"""Whether a try that is told to end leaves what it has started to the next try."""

from typing import Any

from airflow.sdk.exceptions import AirflowRuntimeError


def is_given_up(store: Any, key: str) -> bool:
    """Say whether Airflow has given this try up, so that the next one goes on with what this one keeps under `key`.

    So it is where the scheduler of a try has died, or its heartbeats were not heard: Airflow then knows the try under
    another id, and tells the worker that still follows it to end. By its old id it finds nothing, not even what it has
    put into the store itself. A try that a person ends, or that takes too long, finds it. Where Airflow does not
    answer, nobody has asked for the end: the worker lost it.
    """
    try:
        return store.get(key) is None
    except AirflowRuntimeError:
        return True
