"""The partition: one UTC day, the unit of every run, every table and every command."""

import datetime
import re
from typing import NewType

from llambert_etl.errors import ConfigError

Partition = NewType("Partition", str)

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def parse_partition(value: str) -> Partition:
    """Accept exactly `YYYY-MM-DD`; raise ConfigError otherwise.

    Airflow renders the key of a run that has none as the string `None`: that too is refused, for nothing may fall back
    to today.
    """
    if value in ("", "None"):
        raise ConfigError("no partition: this run has no partition key; trigger it with one, such as 2026-11-10")
    try:
        if not _DAY.fullmatch(value):
            raise ValueError(value)
        datetime.date.fromisoformat(value)
    except ValueError as error:
        raise ConfigError(f"partition {value!r} is not a day: write it as YYYY-MM-DD, such as 2026-11-10") from error
    return Partition(value)


def day_before(day: Partition) -> Partition:
    return Partition(str(datetime.date.fromisoformat(day) - datetime.timedelta(days=1)))
