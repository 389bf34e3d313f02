"""What a try has from the try before: Airflow's task state store, and what it tells of a process."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llambert_etl.orchestration.local import STORE_KEY


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


class Store(dict[str, Any]):
    """Airflow's task state store: the only thing that a retry has from the try before."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value

    def delete(self, key: str) -> None:
        self.pop(key, None)


def stored(folder: Path, host: str | None = None) -> Store:
    return Store({STORE_KEY: {"host": host or os.uname().nodename, "folder": str(folder)}})
