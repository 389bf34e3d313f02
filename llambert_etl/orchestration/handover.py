"""For how long a try that is told to end leaves what it has started to the next try."""

from typing import Any

from airflow.sdk.exceptions import AirflowRuntimeError

# The next try begins at once, or when the delay of a retry is over.
GIVEN_UP_SECONDS = 180
# Airflow has first to notice that nothing is heard of this try: 300 s, unless somebody has set another time.
SILENT_SECONDS = 600


def patience(store: Any, key: str) -> int:
    """Return for how many seconds what this try keeps under `key` is left to the next one; none where it is to end.

    Where the scheduler of a try has died, or its heartbeats were not heard, Airflow knows the try under another id
    and tells the worker that still follows it to end. By its old id it finds nothing, not even what it has put into
    the store itself. A try that a person ends, or that takes too long, finds it. Where Airflow does not answer, nobody
    has asked for the end: the worker lost it.
    """
    try:
        return GIVEN_UP_SECONDS if store.get(key) is None else 0
    except AirflowRuntimeError:
        return SILENT_SECONDS
